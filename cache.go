package cdfauth

import (
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf16"
)

// This file has the caches; what a provider does with one (which of the tokens in it are its own, how it takes one, how processes that share it make one request
// between them); what only the flows of a person do (whose sign-ins are in it and which is meant, how one is renewed, when a person is asked, what is kept and how
// forgotten: the order is a token in the cache, a refresh token, the person); and what its content looks like.

// Cache stores one opaque blob, for providers to keep tokens in between runs of a program. It is safe for concurrent use.
type Cache interface {
	// Get returns the blob, which is the caller's to keep; nil, nil when it is empty. It does not wait for an Update that is under way.
	Get(ctx context.Context) ([]byte, error)
	// Update calls f at most once, with the current content, while nobody else, in this process or another, is inside Update, and stores the result. Content
	// equal to old is not written; empty content removes the blob; if f fails nothing is written and f's error is returned as it is. f's context also ends when
	// exclusion can no longer be guaranteed (a lease lost), and then the late write is refused. The wait for exclusion ends with ctx; once f has returned, ctx no
	// longer stops the write. f may take minutes, cannot be repeated (it redeems one-time tokens) and must not call Update: a compare-and-swap loop is no Cache.
	Update(ctx context.Context, f func(ctx context.Context, old []byte) (new []byte, err error)) error
}

func checkCall(ctx context.Context, usable bool) error {
	if !usable || ctx == nil {
		return errors.New("cdfauth: cache: the cache, the context or the function is nil or zero")
	}
	return ctx.Err()
}

type turns struct { // a mutex that can be waited for under a context
	once sync.Once
	free chan struct{}
}

func (t *turns) begin(ctx context.Context) error {
	t.once.Do(func() { t.free = make(chan struct{}, 1) })
	select {
	case t.free <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *turns) end() { <-t.free }

// FileCache is a [Cache] in a file; [NewFileCache] makes one.
//
// The file is replaced as a whole: whenever a program is killed, a reader sees the old content or the new. Update locks a second file, named with ".lock" after
// it; the system releases the lock when a program dies. That file stays: were it removed, one program could lock the removed and another a new one. Both have to be
// regular, no symbolic links, of one link, ours, not writable by others, and of 1 MiB at most. Anything else is an error of Get and Update, and nothing is touched.
// A mode wider than 0600 is narrowed. On Windows the access control list that files inherit is the protection: choose a directory that only its user can open, as
// that of [DefaultCachePath] is. Without flock and LockFileEx (Solaris, WebAssembly) the error is ErrUnsupported.
type FileCache struct{ path string }

// NewFileCache returns a Cache in the file at path, which must not be empty; a relative one is made absolute now. It is made, with its directory (mode 0700), when needed.
func NewFileCache(path string) (*FileCache, error) {
	abs, err := filepath.Abs(path)
	if err = cmp.Or(refuse("is empty", []refusal{{path == "", " (DefaultCachePath has a good one)"}}), err); err != nil {
		return nil, fmt.Errorf("cdfauth: NewFileCache: path: %w", err)
	}
	return &FileCache{abs}, nil
}

// Get returns the content of the file; nil, nil if there is none.
func (c *FileCache) Get(ctx context.Context) ([]byte, error) {
	if err := checkCall(ctx, c != nil && c.path != ""); err != nil {
		return nil, err
	}
	f, err := patiently(ctx, func() (*os.File, error) { return tryOpen(c.path, false) })
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, cacheError(err)
	}
	defer f.Close()
	b := bytes.NewBuffer(make([]byte, 0, 8<<10)) // most are smaller
	switch _, err = b.ReadFrom(io.LimitReader(f, maxCache+1)); {
	case err != nil || b.Len() == 0:
		return nil, cacheError(err)
	case b.Len() > maxCache:
		return nil, cacheError(&os.PathError{Op: "read", Path: c.path, Err: errTooBig})
	}
	return b.Bytes(), nil
}

// Update implements [Cache]. Errors that are not f's own name the file.
func (c *FileCache) Update(ctx context.Context, f func(ctx context.Context, old []byte) (new []byte, err error)) error {
	if err := checkCall(ctx, c != nil && c.path != "" && f != nil); err != nil {
		return err
	}
	mkdir := os.MkdirAll(filepath.Dir(c.path), 0o700)
	lock, err := patiently(ctx, func() (*os.File, error) { return tryOpen(c.path+".lock", true) })
	if err != nil {
		return cacheError(cmp.Or(mkdir, err))
	}
	defer lock.Close() // releases it, also if f panics
	old, err := c.Get(ctx)
	if err != nil {
		return err
	}
	now, err := f(ctx, bytes.Clone(old)) // f may write into what it gets
	if err != nil || bytes.Equal(now, old) {
		return err
	}
	return cacheError(c.write(now))
}

// setAside moves the file to one fixed name, for a user to look at, if there is still nothing that a provider could make of its content.
func (c *FileCache) setAside(ctx context.Context) error {
	return c.Update(ctx, func(_ context.Context, now []byte) (_ []byte, err error) {
		if _, bad := parseContents(now); bad != nil {
			err = c.change(func() error { return os.Rename(c.path, c.path+".bad") })
		}
		return now, cacheError(err)
	})
}

func cacheError(err error) error { // prefixes an error of package os or in its image, which has the path
	if err != nil {
		err = fmt.Errorf("cdfauth: cache: %w", err)
	}
	return err
}

const maxCache = 1 << 20 // 1 MiB

var errTooBig, errCacheContent = errors.New("content has more than 1 MiB"), errors.New("the content is not of MSAL's cache format")

// write replaces the file, or removes it if b is empty. Before, it sweeps up the temporary files of killed writers: under the lock, there are no others.
func (c *FileCache) write(b []byte) error {
	dir, base := filepath.Split(c.path)
	entries, _ := os.ReadDir(dir) // what cannot be listed is not swept
	for _, e := range entries {
		random, ours := strings.CutPrefix(e.Name(), base+".")
		if like, _ := filepath.Match(strings.Repeat("[A-Z2-7]", 26)+".tmp", random); ours && like && e.Type().IsRegular() {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	switch {
	case len(b) == 0:
		return c.change(func() error { return os.Remove(c.path) })
	case len(b) > maxCache:
		return &os.PathError{Op: "write", Path: c.path, Err: errTooBig}
	}
	temp := c.path + "." + rand.Text() + ".tmp"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil { // unsynced, the name could be there without the content after a power failure
		err = c.change(func() error { return os.Rename(temp, c.path) })
	}
	if err != nil {
		os.Remove(temp)
	}
	return err
}

func (c *FileCache) change(op func() error) error {
	_, err := patiently(context.Background(), func() (*os.File, error) { return nil, op() })
	d, _ := os.Open(filepath.Dir(c.path))
	_ = errors.Join(d.Sync(), d.Close()) // what cannot be opened or synced (on Windows, on some network file systems) is changed all the same
	return err
}

// patiently repeats op until ctx ends while the lock is somebody else's, and for two seconds if somebody merely has the file open, which only Windows minds (a
// virus scanner, a backup, a Python program). It asks again and again: a blocking system call would go on after ctx, and lock when nobody waits.
func patiently(ctx context.Context, op func() (*os.File, error)) (*os.File, error) {
	start := time.Now()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		f, err := op()
		if err == nil || !errors.Is(err, errLocked) && (!busy(err) || time.Since(start) > 2*time.Second) {
			return f, err
		}
		if !sleep(ctx, pause) {
			return nil, fmt.Errorf("%w: %w", err, ctx.Err())
		}
	}
}

// DefaultCachePath returns where the tokens of a client are kept, for each user of the system: {os.UserCacheDir}/cdfauth/cognitetokencache.{clientID}.bin. The
// client id is path-escaped, a colon too, for Windows; over 200 bytes, it is "sha256!" and its hash. It is an error if clientID is empty or there is no such directory.
func DefaultCachePath(clientID string) (string, error) {
	dir, err := os.UserCacheDir()
	if err = cmp.Or(refuse("clientID", []refusal{{clientID == "", " is empty"}}), err); err != nil {
		return "", fmt.Errorf("cdfauth: DefaultCachePath: %w", err)
	}
	id := strings.ReplaceAll(url.PathEscape(clientID), ":", "%3A")
	if len(id) > 200 { // the names of lock and temporary files are longer, and 255 is the limit
		id = fmt.Sprintf("sha256!%x", sha256.Sum256([]byte(clientID)))
	}
	return filepath.Join(dir, "cdfauth", "cognitetokencache."+id+".bin"), nil
}

// MemoryCache is a [Cache] that lives as long as the program, for providers that share a sign-in. The zero value is ready; it must not be copied.
type MemoryCache struct {
	turns   turns
	content atomic.Pointer[func() []byte] // nobody writes into what it returns
}

// Get returns a copy of the content.
func (c *MemoryCache) Get(ctx context.Context) ([]byte, error) {
	if err := checkCall(ctx, c != nil); err != nil {
		return nil, err
	}
	if content := c.content.Load(); content != nil {
		return bytes.Clone((*content)()), nil
	}
	return nil, nil
}

// Update implements [Cache].
func (c *MemoryCache) Update(ctx context.Context, f func(ctx context.Context, old []byte) (new []byte, err error)) error {
	if err := checkCall(ctx, c != nil && f != nil); err != nil {
		return err
	}
	if err := c.turns.begin(ctx); err != nil {
		return err
	}
	defer c.turns.end()
	old, _ := c.Get(context.Background())
	now, err := f(ctx, old)
	if err == nil {
		now = append([]byte(nil), now...) // nil if empty
		content := func() []byte { return now }
		c.content.Store(&content)
	}
	return err
}

// EncryptCache returns a Cache that keeps its content in c, encrypted with AES-256-GCM. The key, 32 random bytes that the caller keeps elsewhere (such as the
// system's key store), is copied. Content that was made with another key or none, or was changed, is an error of Get and Update and stays as it is. That somebody
// removed the content or put older content back is not noticed: it was made with the key too.
func EncryptCache(c Cache, key []byte) (Cache, error) {
	if c == nil || len(key) != 32 {
		return nil, fmt.Errorf("cdfauth: EncryptCache: a cache and a key of 32 bytes are wanted, not %T and %d bytes", c, len(key))
	}
	block, _ := aes.NewCipher(key)                 // which refuses other lengths alone
	aead, _ := cipher.NewGCMWithRandomNonce(block) // refuses no AES; draws the nonces itself, as FIPS 140 demands
	const sealed = "\x01cdfauth token cache"       // the content's first byte, its version, and with what it is for the additional data: the key may be in use elsewhere
	return &codedCache{c, func(stored []byte) ([]byte, error) {
		plain, err := aead.Open(nil, nil, stored[1:], []byte(sealed))
		if err != nil || stored[0] != sealed[0] {
			return nil, errors.New("cdfauth: EncryptCache: the content was made with another key or none, or was changed")
		}
		return plain, nil
	}, func(plain []byte) []byte { return aead.Seal([]byte(sealed[:1]), nil, plain, []byte(sealed)) }}, nil
}

type codedCache struct { // keeps what encode makes of its content, and decode undoes, in another
	cache  Cache
	decode func(stored []byte) ([]byte, error)
	encode func(plain []byte) []byte
}

func (c *codedCache) open(stored []byte, err error) ([]byte, error) {
	if err != nil || len(stored) == 0 {
		return nil, err
	}
	return c.decode(stored)
}

func (c *codedCache) Get(ctx context.Context) ([]byte, error) { return c.open(c.cache.Get(ctx)) }

func (c *codedCache) Update(ctx context.Context, f func(ctx context.Context, old []byte) (new []byte, err error)) error {
	if err := checkCall(ctx, f != nil); err != nil {
		return err
	}
	return c.cache.Update(ctx, func(ctx context.Context, old []byte) ([]byte, error) {
		plain, err := c.open(old, nil)
		if err != nil {
			return nil, err
		}
		now, err := f(ctx, bytes.Clone(plain))
		switch {
		case err != nil || len(now) == 0:
			return nil, err
		case bytes.Equal(now, plain):
			return old, nil // encrypted anew it would differ
		}
		return c.encode(now), nil
	})
}

type store struct {
	client *client
	engine *engine
	cache  Cache
	grant  string                      // marks the tokens that an application got for itself; "" in a user's flow
	spare  atomic.Pointer[MemoryCache] // goes, for good, for a cache that does not work: a user's flow must not lose its refresh token
}

// A look at the cache, the pause before another, and a wait for others inside Update in a silent flight: one attempt is left for going on without the cache.
const peekLimit, tornPause, lockLimit = 3 * time.Second, 100 * time.Millisecond, silentLimit - attemptLimit - 4*time.Second

// appToken is the silent phase of the flows without a user: if a cache has no token, one exchange, in which prove adds what authenticates the client.
func (c *client) appToken(e *engine, cache Cache, prove filler) func(context.Context) (issued, error) {
	s := &store{client: c, engine: e, cache: cache, grant: "client_credentials"}
	fetch := func(ctx context.Context) (issued, error) { return c.exchange(ctx, s.grant, attempts, prove) }
	if cache == nil {
		return fetch
	}
	return func(ctx context.Context) (issued, error) {
		l, _ := s.peek(ctx, s.findApp)
		if l.fresh {
			return l.issued, nil
		}
		i, err := s.transact(ctx, lockLimit, func(ctx context.Context, c contents) (i issued, changed bool, err error) {
			if l := s.findApp(c); l.fresh {
				return l.issued, false, nil
			}
			i, err = fetch(ctx)
			if changed = err == nil && i.token.Expiry().After(s.client.now()); changed {
				c.put(accessTokens, s.accessToken(i, "", s.client.scope))
			}
			return i, changed, err
		})
		return l.orElse(i, err, s.engine)
	}
}

type lookup struct {
	issued
	valid, fresh  bool // issued has a token that is not dead, and needs no refresh
	refreshTokens []entry
	account       account
}

func (l *lookup) orElse(i issued, err error, e *engine) (issued, error) { // prefers what was found and is still valid to an error, unless the engine has a token of its own to keep
	if now := e.now(); err != nil && l.valid && now.Before(l.token.Expiry()) && !e.current.Load().valid(now.UnixNano()) {
		return l.issued, nil
	}
	return i, err
}

func (s *store) peek(ctx context.Context, find func(contents) lookup) (lookup, error) { // looks into the cache without the lock. Content that makes no sense counts as none here.
	blob, err := s.read(ctx, 0)
	if err != nil {
		return lookup{}, err
	}
	c, _ := s.parse(ctx, blob)
	return find(c), nil
}

func (s *store) read(ctx context.Context, pause time.Duration) ([]byte, error) { // reads after a pause; guarded within Update too, where a cache of another's may not want it
	sleep(ctx, pause)
	ctx, cancel := context.WithTimeout(ctx, peekLimit)
	defer cancel()
	return guard(ctx, "Cache", s.current().Get)
}

func (s *store) current() Cache {
	if spare := s.spare.Load(); spare != nil {
		return spare
	}
	return s.cache
}

// transact does the work, once, with the content of the cache while all others wait, and stores what changed. Whatever is wrong with the cache costs persistence,
// never the token: the work is then done in memory. Only a user's flow that does not get the lock fails: redeeming a refresh token twice may end the sign-in.
func (s *store) transact(ctx context.Context, patience time.Duration, work func(context.Context, contents) (i issued, changed bool, err error)) (issued, error) {
	got, content, failed := issued{}, []byte(nil), error(nil) // content is what is to be stored, nil if nothing has changed
	var begun atomic.Bool                                     // work was called, or will not be: the cache was given up
	worked := make(chan struct{})                             // closed when it has brought these three, whatever the cache does afterwards
	session, spare, cache := s.engine.session.Load(), s.spare.Load(), s.current()
	deadline, _ := ctx.Deadline() // which every phase has; the last second is for going on
	waiting, stop := context.WithDeadline(ctx, deadline.Add(-time.Second))
	defer stop()
	timer := time.AfterFunc(patience, stop)
	defer timer.Stop()
	_, err := guarded(waiting, "Cache", func() error {
		inside := func(ctx context.Context, old []byte) ([]byte, error) {
			timer.Stop()
			c, err := s.parse(ctx, old)
			if err != nil {
				return nil, err
			}
			if waiting.Err() != nil || !begun.CompareAndSwap(false, true) {
				return nil, errors.New("called its function too late, or twice")
			}
			changed := false
			if got, changed, failed = work(ctx, c); s.engine.session.Load() != session {
				failed = errSignedOut
			} else if changed {
				old, err = c.blob()
				content = old
			}
			close(worked)
			return old, err
		}
		err := cache.Update(waiting, inside)
		if f, ok := cache.(interface{ setAside(context.Context) error }); ok && errors.Is(err, errCacheContent) && !begun.Load() {
			if err = f.setAside(ctx); err == nil {
				err = cache.Update(waiting, inside)
			}
		}
		return err
	})
	late := waiting.Err() != nil
	if begun.Swap(true) {
		select {
		case <-worked:
		case <-time.After(time.Second): // it panicked, or is still at work
			return issued{}, err
		}
		if err != nil && content != nil {
			s.warn(ctx, "cdfauth: the token was not stored", err)
			if s.grant == "" {
				spare = new(MemoryCache)
				spare.Update(context.Background(), func(context.Context, []byte) ([]byte, error) { return content, nil })
				s.spare.Store(spare)
			}
		}
		return got, failed
	}
	switch {
	case err == nil:
		err = errors.New("Update did not call its function")
	case ctx.Err() != nil || spare != nil:
		return issued{}, err
	case late && s.grant == "":
		return issued{}, fmt.Errorf("%w: another program has the cache: %w", ErrSignInRequired, err)
	}
	s.warn(ctx, "cdfauth: the cache is not used", err)
	if s.grant == "" {
		s.spare.Store(new(MemoryCache))
		return s.transact(ctx, patience, work)
	}
	i, _, err := work(ctx, contents{})
	return i, err
}

// parse reads a blob, and reads it again if it makes no sense: old versions of Cognite's Python SDK truncate the file before they write it.
func (s *store) parse(ctx context.Context, blob []byte) (contents, error) {
	c, err := parseContents(blob)
	for try := 1; err == errCacheContent && try <= 3; try++ {
		if blob, err = s.read(ctx, tornPause); err == nil {
			c, err = parseContents(blob)
		}
	}
	return c, err
}

// whose returns what the provider's own entries have in common. For an issuer goes the URL that it is found by: the token endpoint if that is known from the
// start. The realm is the first segment of the token endpoint's path, as the metadata has it; "" while that is not known, as of a tenant not named by its GUID.
func (s *store) whose() (realm, issuer string) {
	c, m, kind := s.client, s.client.metadata(), s.client.endpoint.kind
	tokenURL, issuer := "", c.endpoint.url
	if kind != kindIssuer && kind != kindDiscovery {
		tokenURL, _ = c.endpointURL(context.Background(), "token")
		issuer = tokenURL
	}
	own := firstSegment(tokenURL)
	if m != nil {
		tokenURL = m.TokenURL
	}
	realm = firstSegment(tokenURL)
	isGUID := len(realm) == 36 && strings.Count(realm, "-") == 4 && strings.Trim(realm, "0123456789abcdefABCDEF-") == ""
	switch {
	case s.grant != "" || kind != kindAuthority:
	case m == nil && !isGUID:
		realm = ""
	default:
		issuer = strings.Replace(issuer, "/"+own+"/", "/"+realm+"/", 1) // one for both of a tenant's names
	}
	return realm, issuer
}

func firstSegment(rawURL string) string {
	u, _ := parseURL(rawURL)
	first, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	return first
}

func (s *store) environment() string { return s.client.endpoint.host }

// findApp returns the newest token of an application's own. The scopes have to be the same: an application may not know what it gets for asking for none.
func (s *store) findApp(c contents) lookup {
	realm, issuer := s.whose()
	scopes, ext := target(s.client.scope), extCacheKey(s.client.params)
	return s.newest(c, "", func(e entry) bool {
		return s.ours(e) && (realm == "" || e.text("realm") == realm) && e.text(fieldIssuer) == issuer && e.account() == "" &&
			e.text("target") == scopes && e.text("ext_cache_key") == ext
	})
}

func (s *store) ours(e entry) bool { // reports whether an entry can be the provider's own, as far as the schema tells
	return e.text("environment") == s.environment() && e.text("client_id") == s.client.id && e.text(fieldGrant) == s.grant
}

func (s *store) newest(c contents, username string, match func(entry) bool) (l lookup) { // returns the newest access token that matches and was not refused, a fresh one if there is one
	now := s.client.now()
	for _, e := range c.find(accessTokens, match) {
		i := issued{sent: e.time("cached_at"), refresh: e.time("refresh_on")}
		if checkAccessToken(e.text("secret")) != "" || i.sent.IsZero() || i.sent.After(now.Add(5*time.Minute)) { // of a clock that is wrong
			continue
		}
		i.token = newToken(tokenData{bearer + e.text("secret"), e.time("expires_on"), printable(e.text(fieldGranted)), printable(username)})
		h := hold(i, s.engine.leeway)
		fresh := now.UnixNano() < h.fresh
		if h.valid(now.UnixNano()) && (fresh && !l.fresh || !l.valid) && !s.engine.isRefused(i.token) {
			l.issued, l.valid, l.fresh = i, true, fresh
		}
	}
	return l
}

func (s *store) newEntry(section, account, secret string, more entry) entry { // makes an entry of the provider's own, with more fields but those that are empty
	realm, issuer := s.whose()
	maps.DeleteFunc(more, func(_ string, v any) bool { return v == "" })
	e := entry{"credential_type": section, "secret": secret, "home_account_id": account, "environment": s.environment(), "realm": realm,
		"client_id": s.client.id, fieldIssuer: issuer}
	if account == "" {
		e["home_account_id"] = nil
	}
	maps.Copy(e, more)
	return e
}

func (s *store) accessToken(i issued, account, scope string) entry {
	expires, asked := unix(i.token.Expiry()), ""
	if s.grant == "" && (s.client.scope == "" || !covers(scope, s.client.scope)) {
		asked = cmp.Or(target(s.client.scope), "-") // or every start would ask again for what was not granted
	}
	return s.newEntry(accessTokens, account, i.token.AccessToken(), entry{"target": target(scope), "token_type": "Bearer", "cached_at": unix(i.sent),
		"expires_on": expires, "extended_expires_on": expires, "refresh_on": unix(i.refresh), "ext_cache_key": extCacheKey(s.client.params),
		fieldGrant: s.grant, fieldGranted: i.token.Scope(), fieldAsked: asked})
}

func (s *store) warn(ctx context.Context, what string, err error) {
	if err != nil && s.client.logger != nil {
		s.client.logger.LogAttrs(ctx, slog.LevelWarn, what, slog.String("flow", s.client.flow), slog.Any("error", err))
	}
}

type account struct {
	id       string // home_account_id, "" if the provider tells no accounts apart
	username string
}

type user struct {
	store
	cfg     InteractiveConfig // has the fields of the other flow's too
	source  string            // account_source: the grant by which people sign in
	noHome  error             // why there is no default cache; nil once that was said
	signIn  func(context.Context, *question) (issued, claims, error)
	account atomic.Pointer[account] // whose tokens are handed out; nil until that is known
}

type question struct {
	*metadata
	scope, prompt, hint string
	answered            func() bool // to be called when an answer has arrived: from then on nobody can stop the flight
}

func newUser(flow, source string, cfg InteractiveConfig) (*user, error) {
	c, e, err := newClient(flow, cfg.Endpoint, cfg.ClientID, cfg.Scopes, cfg.Params, cfg.Options)
	if cfg.Endpoint.kind == kindTokenURL {
		err = cmp.Or(err, errors.New("cdfauth: Endpoint: TokenURL names too little for a user's flow: want Issuer, Entra, Authority or Discovery"))
	}
	if err != nil {
		return nil, err
	}
	u := &user{store: store{client: c, engine: e, cache: cfg.Cache}, cfg: cfg, source: source}
	if u.cache == nil {
		var path string
		u.cache = new(MemoryCache)
		if path, u.noHome = DefaultCachePath(c.id); u.noHome == nil {
			u.cache, u.noHome = NewFileCache(path)
		}
	}
	e.silent, e.ask, e.signOut = u.silent, u.ask, u.signOut
	return u, nil
}

// owns reports whether an entry is of this client at this identity provider. The key does not tell: two realms, tenants or ports of one host look the same in it.
// Our own entries say who issued them; of others it is the ID token of the same account that does, or for Entra the realm.
func (u *user) owns(c contents, section string, e entry) bool {
	realm, issuer := u.whose()
	said, inRealm := e.text(fieldIssuer), section == refreshTokens || e.text("realm") == realm // those serve all realms of an account
	switch {
	case !u.ours(e):
		return false
	case said == issuer:
		return true
	case u.client.entraStyle():
		return inRealm && (said == "" || origin(said) == origin(issuer))
	}
	iss := u.idToken(c, e.account()).Iss
	if m := u.client.metadata(); m != nil && iss != m.Issuer || m == nil && strings.TrimSuffix(iss, "/") != u.client.endpoint.url {
		return false
	}
	return said == "" && (inRealm || realm == "")
}

func (u *user) idToken(c contents, id string) claims { // returns what the cached ID token of an account says, nothing if there is none. That of another of Entra's tenants says something else.
	realm, issuer := u.whose()
	for _, e := range c.find(idTokens, func(e entry) bool {
		ours := slices.Contains([]string{"", issuer}, e.text(fieldIssuer))
		if u.client.entraStyle() {
			ours = e.text("realm") == realm
		}
		return id != "" && e.account() == id && u.ours(e) && ours
	}) {
		if said, err := parseIDToken(e.text("secret")); err == nil {
			return said
		}
	}
	return claims{}
}

// who is meant: the account used so far, else the one that LoginHint names, else the only one. Tokens of nobody count only where the client has no account.
func (u *user) who(c contents) (a *account, several bool) {
	if a = u.account.Load(); a != nil {
		return a, false
	}
	ids, anybody := map[string]bool{}, false
	for _, section := range sections[:3] {
		for _, e := range c.find(section, u.ours) {
			anybody = anybody || e.account() != ""
			if u.owns(c, section, e) {
				ids[e.account()] = true
			}
		}
	}
	for id := range ids {
		name := ""
		for _, e := range c.find(accounts, func(e entry) bool { return e.account() == id && e.text("environment") == u.environment() }) {
			name = e.text("username")
		}
		name = cmp.Or(name, u.idToken(c, id).PreferredUsername, u.idToken(c, id).UPN) // Python's device flow forgets it when it refreshes
		switch {
		case id == "" && anybody || u.cfg.LoginHint != "" && !strings.EqualFold(name, u.cfg.LoginHint):
		case a != nil:
			return nil, true
		default:
			a = &account{id, name}
		}
	}
	return a, false
}

func (u *user) search(c contents) lookup {
	if a, _ := u.who(c); a != nil {
		return u.tokens(c, *a)
	}
	return lookup{}
}

func (u *user) tokens(c contents, a account) lookup { // finds an account's access token, and its refresh tokens, the newest first
	scope, ext := u.client.scope, extCacheKey(u.client.params)
	l := u.newest(c, a.username, func(e entry) bool {
		return u.owns(c, accessTokens, e) && e.account() == a.id && e.text("ext_cache_key") == ext &&
			(scope != "" && covers(e.text("target"), scope) || e.text(fieldAsked) == cmp.Or(target(scope), "-"))
	})
	l.account = a
	l.refreshTokens = c.find(refreshTokens, func(e entry) bool {
		return u.owns(c, refreshTokens, e) && e.account() == a.id && e.text("secret") != ""
	})
	return l
}

func (u *user) mustPrompt() bool { return u.cfg.Prompt != "" && u.account.Load() == nil } // says that Prompt has yet to be obeyed, whatever the cache has

func (u *user) silent(ctx context.Context) (issued, error) {
	u.warn(ctx, "cdfauth: the sign-in is kept in memory alone", u.noHome)
	if u.noHome = nil; u.mustPrompt() {
		return issued{}, ErrSignInRequired
	}
	l, err := u.peek(ctx, u.search)
	if !l.fresh { // what was not found may only not have been recognised
		if e := u.recognise(ctx); e != nil {
			return l.orElse(issued{}, e, u.engine)
		}
		l, err = u.peek(ctx, u.search)
	}
	switch {
	case l.fresh:
		u.account.Store(&l.account)
		return l.issued, nil
	case err == nil && len(l.refreshTokens) == 0:
		return l.orElse(issued{}, ErrSignInRequired, u.engine)
	}
	i, err := u.transact(ctx, lockLimit, u.renew)
	return l.orElse(i, err, u.engine)
}

func (u *user) recognise(ctx context.Context) (err error) { // reads the metadata if the cache cannot be searched, or the provider not be reached, without it
	if realm, _ := u.whose(); realm == "" || !u.client.entraStyle() {
		_, err = u.client.provider(ctx)
	}
	return err
}

// renew takes a token that somebody else has stored meanwhile, or redeems a refresh token. Of one that is refused another is tried, once: a newer one of the same
// account, or one that a program which takes no lock (Python's) has stored since.
func (u *user) renew(ctx context.Context, c contents) (i issued, changed bool, err error) {
	l := u.search(c)
	a, tokens := l.account, l.refreshTokens
	err = errors.New("there is no refresh token")
	for try := 1; ; try++ {
		switch {
		case l.fresh:
			u.account.Store(&a)
			return l.issued, changed, nil
		case len(tokens) == 0 || try > 2:
			return issued{}, changed, fmt.Errorf("%w: %w", ErrSignInRequired, err)
		}
		e, oe := tokens[0], (*OAuthError)(nil)
		var said claims
		i, said, err = u.refresh(ctx, c, e)
		switch errors.As(err, &oe); {
		case err == nil:
			u.keep(c, &i, said, a, e)
			return i, true, nil
		case oe != nil && slices.Contains([]string{"interaction_required", "login_required", "consent_required", "invalid_scope"}, oe.Code):
			return i, changed, fmt.Errorf("%w: %w", ErrSignInRequired, err)
		case oe == nil || oe.Code != "invalid_grant" && (oe.Code != "" || oe.StatusCode != 400 && oe.StatusCode != 401): // some say no more
			return i, changed, err
		}
		u.reload(ctx, c)
		same := func(a, b entry) bool { return a.text("secret") == b.text("secret") }
		c.remove(refreshTokens, func(r entry) bool { return u.owns(c, refreshTokens, r) && same(r, e) })
		known := tokens
		l = u.tokens(c, a)
		tokens = slices.DeleteFunc(l.refreshTokens, func(r entry) bool {
			return !r.written().After(e.written()) && slices.ContainsFunc(known, func(k entry) bool { return same(k, r) })
		})
		changed = true
	}
}

func (u *user) reload(ctx context.Context, c contents) { // replaces a content, in place, by what is in the cache a moment later, if anything is
	blob, _ := u.read(ctx, tornPause)
	if now, _ := u.parse(ctx, blob); len(now) > 0 {
		clear(c)
		maps.Copy(c, now)
	}
}

// refresh redeems a refresh token (RFC 6749 §6). An ID token with it has issuer and subject of the first one (OpenID Connect Core §12.2).
func (u *user) refresh(ctx context.Context, c contents, e entry) (issued, claims, error) {
	first := u.idToken(c, e.account())
	if first.Iss == "" { // found before the refresh token is spent
		m, err := u.client.provider(ctx)
		if err != nil {
			return issued{}, claims{}, err
		}
		first.Iss = m.Issuer
	}
	i, err := u.client.exchange(ctx, "refresh_token", attempts, u.filler(url.Values{"refresh_token": {e.text("secret")}}, e.text("secret")))
	if err != nil {
		return i, claims{}, err
	}
	said, err := u.believe(i, first.Iss, "", e.text("secret"))
	if err == nil && said.Sub != "" && first.Sub != "" && said.Sub != first.Sub {
		err = errors.New("cdfauth: the ID token that came with a refresh is another user's")
	}
	return i, said, err
}

func (u *user) filler(fields url.Values, secrets ...string) filler { // adds to a token request its grant's fields, and what those of all of a user's grants have
	return func(ctx context.Context, _ string, f *form) (err error) {
		maps.Copy(f.Values, fields)
		f.secrets = append(f.secrets, secrets...)
		m := new(metadata)
		if u.client.entraStyle() {
			f.Set("client_info", "1")
		} else if m, err = u.client.discover(ctx); err != nil {
			return err
		}
		f.Set("scope", u.scope(m))
		return nil
	}
}

func (u *user) scope(m *metadata) string { // what is asked for: the configured scopes and those that a sign-in wants, of which a provider that lists its scopes gets the ones it knows
	all := strings.Fields(u.client.scope)
	for _, s := range openIDScopes {
		if !slices.Contains(all, s) && (u.client.entraStyle() || m.Scopes == nil || slices.Contains(m.Scopes, s)) {
			all = append(all, s)
		}
	}
	return strings.Join(all, " ")
}

// ask is the phase of a flight that may ask a person: when it is this program's turn, and unless a sibling that had its turn before has a token by then.
func (u *user) ask(ctx context.Context) (issued, error) {
	deadline, _ := ctx.Deadline()
	work, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	stop := context.AfterFunc(ctx, cancel) // whoever waits may leave until an answer has arrived
	m, err := u.client.provider(work)
	if err != nil {
		return issued{}, err
	}
	var mine atomic.Bool // it is our turn
	sibling := make(chan lookup, 1)
	go func() { // tells a person who waits for another program, and looks once a second for what that one has got
		defer close(sibling)
		for n := 1; sleep(work, time.Second) && !mine.Load(); n++ {
			if n == 5 {
				u.warn(work, "cdfauth: waiting for the token cache", errors.New("another program is signing in and has it locked"))
				u.tell(work, "Another program is signing in and keeps the token cache locked. Waiting for it to finish.\n")
			}
			if l, _ := u.peek(work, u.search); l.fresh && !u.mustPrompt() {
				sibling <- l
				cancel()
				return
			}
		}
	}()
	i, err := u.transact(work, askLimit, func(ctx context.Context, c contents) (issued, bool, error) {
		mine.Store(true)
		return u.question(ctx, c, m, stop)
	})
	cancel()
	if l := <-sibling; l.fresh && err != nil {
		u.account.Store(&l.account)
		return l.issued, nil
	}
	if err == context.Canceled || err == context.DeadlineExceeded {
		err = fmt.Errorf("cdfauth: %s: nobody has signed in within %v: %w", u.client.flow, askLimit, context.DeadlineExceeded)
	}
	return i, err
}

func (u *user) tell(ctx context.Context, text string) {
	_, _ = guard(ctx, "Output", func(context.Context) (int, error) { return io.WriteString(u.cfg.Output, text) })
}

func (u *user) question(ctx context.Context, c contents, m *metadata, answered func() bool) (i issued, changed bool, err error) {
	q := &question{metadata: m, scope: u.scope(m), prompt: u.cfg.Prompt, hint: u.cfg.LoginHint, answered: answered}
	if !u.mustPrompt() {
		if len(c) == 0 { // or an old Python SDK is about to write it
			u.reload(ctx, c)
		}
		if i, changed, err = u.renew(ctx, c); !errors.Is(err, ErrSignInRequired) {
			return i, changed, err
		}
		q.prompt = ""
		if a, several := u.who(c); several {
			q.prompt = "select_account"
		} else if a != nil {
			q.hint = cmp.Or(a.username, u.cfg.LoginHint)
		}
	}
	if !u.client.entraStyle() && slices.Contains(m.Scopes, "offline_access") && q.prompt != "consent" { // or there is no refresh token (Core §11)
		q.prompt = strings.TrimSpace(q.prompt + " consent")
	}
	i, said, err := u.signIn(ctx, q)
	if err != nil {
		return i, changed, err
	}
	u.keep(c, &i, said, i.answer.account(said), nil)
	return i, true, nil
}

func (r *tokenResponse) account(said claims) account { // tells whose token an answer has, as MSAL does
	var info struct{ UID, UTID string }
	a := account{said.Sub, cmp.Or(said.PreferredUsername, said.UPN)}
	b, _ := base64.RawURLEncoding.DecodeString(strings.TrimRight(r.ClientInfo, "="))
	if json.Unmarshal(b, &info) == nil && info.UID != "" && info.UTID != "" {
		a.id = info.UID + "." + info.UTID
	}
	return a
}

func (u *user) keep(c contents, i *issued, said claims, a account, renewed entry) { // puts what a sign-in, or the renewal of one (of the given refresh token), has brought into the cache
	u.account.Store(&a)
	i.token = newToken(tokenData{bearer + i.token.AccessToken(), i.token.Expiry(), i.token.Scope(), printable(a.username)})
	r, now := i.answer, u.client.now()
	granted := cmp.Or(strings.TrimSpace(r.Scope), u.client.scope)
	c.remove(accessTokens, func(e entry) bool {
		return u.owns(c, accessTokens, e) && e.account() == a.id && !e.time("expires_on").After(now)
	})
	if i.token.Expiry().After(now) {
		c.put(accessTokens, u.accessToken(*i, a.id, granted))
	}
	if r.RefreshToken != "" {
		e := maps.Clone(renewed) // which stays, but for its secret
		if e == nil {
			e = u.newEntry(refreshTokens, a.id, "", entry{"target": target(granted), "family_id": r.FamilyID})
			delete(e, "realm")
		}
		e["secret"], e["last_modification_time"] = r.RefreshToken, unix(now)
		c.remove(refreshTokens, func(old entry) bool { return renewed != nil && old.text("secret") == renewed.text("secret") }) // whatever its key
		c.put(refreshTokens, e)
	}
	if said.Sub != "" {
		c.put(idTokens, u.newEntry(idTokens, a.id, r.IDToken, nil))
	}
	if renewed == nil && a.id != "" {
		realm, issuer := u.whose()
		c.put(accounts, entry{"home_account_id": a.id, "environment": u.environment(), "realm": realm, "local_account_id": cmp.Or(said.Oid, said.Sub),
			"username": a.username, "authority_type": cmp.Or(map[string]string{"adfs": "ADFS"}[realm], "MSSTS"), "account_source": u.source, fieldIssuer: issuer})
		c.put(appMetadata, entry{"client_id": u.client.id, "environment": u.environment(), fieldIssuer: issuer})
	}
}

func (u *user) signOut(ctx context.Context) error {
	forget := func() {
		u.engine.forget()
		u.spare.Store(nil)
	}
	forget()
	defer forget() // also what a flight has brought meanwhile
	unknown := u.recognise(ctx)
	remove := func(ctx context.Context, old []byte) ([]byte, error) {
		c, err := u.parse(ctx, old)
		a, several := u.who(c)
		switch {
		case several:
			return nil, errors.New("several accounts are signed in, and LoginHint does not say which one to sign out")
		case a == nil || err != nil:
			return old, cmp.Or(err, unknown)
		}
		its := func(e entry) bool { return e.account() == a.id && e.text("environment") == u.environment() }
		others := 0                            // other clients' tokens
		for _, section := range sections[:3] { // the ID token last: others are known by it
			c.remove(section, func(e entry) bool { return its(e) && u.owns(c, section, e) })
			others += len(c.find(section, its))
		}
		if others == 0 {
			c.remove(accounts, its)
		}
		return c.blob()
	}
	_, err := guarded(ctx, "Cache", func() error { return u.cache.Update(ctx, remove) })
	if err == nil {
		u.account.Store(nil)
	}
	return err
}

// The content of a Cache is MSAL's unified cache schema, as MSAL for Python and with it Cognite's Python SDK write it, so that a sign-in made by either serves
// the other: a JSON object of sections, each an object of entries by key. What is not known here is kept as the JSON values that it is.
type contents map[string]any
type entry map[string]any

// The sections, by which entries are also told apart (credential_type), those of tokens first.
const accessTokens, refreshTokens, idTokens, accounts, appMetadata = "AccessToken", "RefreshToken", "IdToken", "Account", "AppMetadata"

var sections = []string{accessTokens, refreshTokens, idTokens, accounts, appMetadata}

// Four fields of our own, which MSAL ignores.
const (
	fieldIssuer  = "issuer"           // who issued it: the schema knows of a provider no more than its host name and a path segment
	fieldGrant   = "grant"            // by which an application got a token for itself
	fieldGranted = "granted"          // the scopes, as the server said them
	fieldAsked   = "requested_target" // which scopes a user's token was asked for, if not all of them were granted; "-" for none
)

func parseContents(blob []byte) (contents, error) { // reads a blob; none at all is an empty cache. No error is passed on: it could quote what it read.
	c := contents{}
	d := json.NewDecoder(bytes.NewReader(blob))
	d.UseNumber()
	good := len(bytes.TrimSpace(blob)) == 0 || d.Decode(&c) == nil && c != nil && len(bytes.TrimSpace(blob[d.InputOffset():])) == 0
	for _, name := range sections {
		section, ok := c[name].(map[string]any)
		good = good && (ok || c[name] == nil)
		for _, e := range section {
			_, ok := e.(map[string]any)
			good = good && (ok || e == nil)
		}
	}
	if !good {
		return nil, errCacheContent
	}
	return c, nil
}

func (c contents) blob() ([]byte, error) { // writes the whole, in ASCII: Python reads the file in the encoding of its locale
	raw, err := json.Marshal(c)
	if err != nil {
		return nil, errCacheContent
	}
	var b bytes.Buffer
	for _, u := range utf16.Encode([]rune(string(raw))) { // whatever is not ASCII is within a string
		if u < 0x80 {
			b.WriteByte(byte(u))
		} else {
			fmt.Fprintf(&b, `\u%04x`, u)
		}
	}
	return b.Bytes(), nil
}

func (c contents) put(section string, e entry) { // replaces an entry; of one that is no token, fields that only others know stay
	s, _ := c[section].(map[string]any)
	if s == nil {
		s = map[string]any{}
		c[section] = s
	}
	whole, key := map[string]any{}, e.key(section)
	old, _ := s[key].(map[string]any)
	for old[fieldIssuer] != nil && e[fieldIssuer] != nil && old[fieldIssuer] != e[fieldIssuer] {
		key += "-" // another issuer's, of which the schema knows nothing, is kept
		old, _ = s[key].(map[string]any)
	}
	if section == accounts || section == appMetadata {
		maps.Copy(whole, old)
	}
	maps.Copy(whole, e)
	s[key] = whole
}

func (c contents) remove(section string, match func(entry) bool) {
	s, _ := c[section].(map[string]any)
	maps.DeleteFunc(s, func(_ string, v any) bool { e, ok := v.(map[string]any); return ok && match(e) })
}

func (c contents) find(section string, match func(entry) bool) (found []entry) { // returns the entries that match, the one written last first
	s, _ := c[section].(map[string]any)
	order := map[string]entry{} // by age, then key
	for key, v := range s {
		if e, ok := v.(map[string]any); ok && match(e) {
			order[strconv.FormatInt(1<<41-entry(e).written().Unix(), 10)+key] = e // always 13 digits
		}
	}
	for _, key := range slices.Sorted(maps.Keys(order)) {
		found = append(found, order[key])
	}
	return found
}

func (e entry) text(field string) string { // a field's value: that of a string, the digits of a number, "" of anything else
	switch v := e[field].(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}

func (e entry) time(field string) time.Time {
	n, err := strconv.ParseInt(e.text(field), 10, 64)
	if err != nil || n <= 0 || n > 1<<40 {
		return time.Time{}
	}
	return time.Unix(n, 0)
}

func (e entry) written() time.Time { // when a token was stored, zero for what is no token
	return cmp.Or(e.time("cached_at"), e.time("last_modification_time"))
}

func (e entry) account() string { return e.text("home_account_id") } // whose token it is, "" if nobody's

func unix(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.Unix(), 10)
}

var keys = map[string]string{ // the names that MSAL for Python gives to entries: another one would leave a stale twin behind when Python updates it
	accessTokens:  "$home_account_id-$environment-accesstoken-$client_id-$realm-$target",
	refreshTokens: "$home_account_id-$environment-refreshtoken-$client_id--$target",
	idTokens:      "$home_account_id-$environment-idtoken-$client_id-$realm-",
	accounts:      "$home_account_id-$environment-$realm",
	appMetadata:   "appmetadata-$environment-$client_id", // the case of this one counts
}

func (e entry) key(section string) string {
	format, expand := keys[section], strings.NewReplacer("$home_account_id", e.account(), "$environment", e.text("environment"), "$client_id", e.text("client_id"),
		"$realm", e.text("realm"), "$target", e.text("target"), "$ext_cache_key", e.text("ext_cache_key")).Replace
	if section == accessTokens && e.text("ext_cache_key") != "" {
		format = strings.Replace(format, "accesstoken", "atext", 1) + "-$ext_cache_key"
	}
	if section == appMetadata {
		return expand(format)
	}
	return strings.ToLower(expand(format))
}

func target(scope string) string { // a list of scopes as MSAL writes it: sorted by code point
	s := strings.Fields(scope)
	slices.Sort(s)
	return strings.Join(slices.Compact(s), " ")
}

var openIDScopes = []string{"openid", "profile", "offline_access"} // ask for who it is and for a refresh token, not for access

func covers(target, scope string) bool { // reports whether a token of that target serves who asks for scope
	granted := append(strings.Fields(target), openIDScopes...)
	return !slices.ContainsFunc(strings.Fields(scope), func(s string) bool { return !slices.Contains(granted, s) })
}

func extCacheKey(params url.Values) string { // how MSAL 1.39 tells tokens apart that were asked for with more parameters than the standard ones
	if len(params) == 0 {
		return ""
	}
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(params)) {
		for _, v := range params[name] {
			fmt.Fprintf(h, "%d:%s%d:%s", len(name), name, len(v), v)
		}
	}
	return strings.ToLower(base64.RawURLEncoding.EncodeToString(h.Sum(nil)))
}
