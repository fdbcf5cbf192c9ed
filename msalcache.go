//go:build go1.24

package cdfauth

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// This file reads and writes the content of a Cache. Its format is MSAL's unified cache
// schema, as MSAL for Python writes it, which Cognite's Python SDK uses. So a sign-in by
// either serves the other. The content is a JSON object of sections. Each section is an
// object of entries by key. What else is in the content is kept.

// An msalCache is the whole content, as encoding/json decodes it.
type msalCache map[string]any

// An entry is one object of a section, such as an access token or an account.
type entry map[string]any

// The sections. The entry of a token also names its section, in its field
// credential_type.
const (
	accessTokens  = "AccessToken"
	refreshTokens = "RefreshToken"
	idTokens      = "IdToken"
	accounts      = "Account"
	appMetadata   = "AppMetadata"
)

// sections are the names of all sections.
var sections = []string{accessTokens, refreshTokens, idTokens, accounts, appMetadata}

// Fields of this package's own, which MSAL ignores.
const (
	// fieldIssuer says who issued a token, in the form of tokenStore.realmAndIssuer.
	// The schema knows no more of a provider than its host and a path segment.
	fieldIssuer = "issuer"
	// fieldGrant is the grant type by which an application got a token for itself.
	fieldGrant = "grant"
	// fieldGranted has the scopes of a token as the server has named them.
	fieldGranted = "granted"
	// fieldAsked has the scopes that a person's token was asked for, if not all of them
	// were granted; noScopes if none was asked for.
	fieldAsked = "requested_target"
)

// errCacheContent says that the content of a cache makes no sense. It does not wrap the
// decoder's error, which could quote a token.
var errCacheContent = errors.New("the content is not of MSAL's cache format")

// parseMSALCache decodes the content of a cache. Empty content is a cache without
// entries. Anything but one JSON object whose sections are objects of objects is
// errCacheContent.
func parseMSALCache(blob []byte) (msalCache, error) {
	blob = bytes.TrimPrefix(blob, []byte(byteOrderMark))
	if len(bytes.TrimSpace(blob)) == 0 {
		return msalCache{}, nil
	}
	// With UseNumber, numbers that other programs have written stay as they are, however
	// long.
	decoder := json.NewDecoder(bytes.NewReader(blob))
	decoder.UseNumber()
	var c msalCache
	err := decoder.Decode(&c)
	if err != nil || c == nil {
		return nil, errCacheContent
	}
	rest := blob[decoder.InputOffset():]
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errCacheContent
	}
	for _, name := range sections {
		if !isSection(c[name]) {
			return nil, errCacheContent
		}
	}
	return c, nil
}

// isSection reports whether a value is an object of objects. Either may be null.
func isSection(value any) bool {
	section, ok := value.(map[string]any)
	if !ok {
		return value == nil
	}
	for _, e := range section {
		if _, ok := e.(map[string]any); !ok && e != nil {
			return false
		}
	}
	return true
}

// isUnreadable reports whether parseMSALCache refuses a blob.
func isUnreadable(blob []byte) bool {
	_, err := parseMSALCache(blob)
	return err != nil
}

// blob encodes the content as ASCII alone, because Python reads the file in the
// encoding of its locale.
func (c msalCache) blob() ([]byte, error) {
	raw, err := json.Marshal(c)
	if err != nil {
		return nil, errCacheContent
	}
	// Characters beyond ASCII are only in strings, where JSON allows an escape in their
	// place (RFC 8259 §7).
	var ascii bytes.Buffer
	for _, unit := range utf16.Encode([]rune(string(raw))) {
		if unit < 0x80 {
			ascii.WriteByte(byte(unit))
		} else {
			fmt.Fprintf(&ascii, `\u%04x`, unit)
		}
	}
	return ascii.Bytes(), nil
}

// find returns the entries of a section that match. The one that was written last comes
// first.
func (c msalCache) find(section string, match func(entry) bool) []entry {
	type found struct {
		key   string
		entry entry
	}
	var all []found
	entries, _ := c[section].(map[string]any)
	for key, value := range entries {
		if e, ok := value.(map[string]any); ok && match(e) {
			all = append(all, found{key, e})
		}
	}
	slices.SortFunc(all, func(a, b found) int {
		newer := b.entry.written().Compare(a.entry.written())
		if newer != 0 {
			return newer
		}
		return strings.Compare(a.key, b.key)
	})
	var matching []entry
	for _, f := range all {
		matching = append(matching, f.entry)
	}
	return matching
}

// put adds an entry, or replaces the one that has its key. An account or application
// metadata keeps those fields of the replaced entry that the new one does not have,
// because other programs may use them. A token keeps none, since the fields of a replaced
// token are about that token.
func (c msalCache) put(section string, e entry) {
	entries, ok := c[section].(map[string]any)
	if !ok {
		entries = map[string]any{}
		c[section] = entries
	}
	// Entries of two issuers on one host can have the same key, because MSAL's keys do not
	// have the issuer. The entry of the other issuer is kept, and the new one gets "-" after
	// its key. It is found all the same: entries are looked for by their fields.
	key := e.key(section)
	old, _ := entries[key].(map[string]any)
	for e.isOfAnotherIssuer(old) {
		key += "-"
		old, _ = entries[key].(map[string]any)
	}
	whole := map[string]any{}
	if section == accounts || section == appMetadata {
		maps.Copy(whole, old)
	}
	maps.Copy(whole, e)
	entries[key] = whole
}

// remove removes the entries of a section that match.
func (c msalCache) remove(section string, match func(entry) bool) {
	entries, _ := c[section].(map[string]any)
	maps.DeleteFunc(entries, func(_ string, value any) bool {
		e, ok := value.(map[string]any)
		return ok && match(e)
	})
}

// text returns the value of a field: a string as it is, a number as its digits, and
// "" for anything else.
func (e entry) text(field string) string {
	switch value := e[field].(type) {
	case string:
		return value
	case json.Number:
		return value.String()
	}
	return ""
}

// set sets a field, unless its value is empty.
func (e entry) set(field, value string) {
	if value != "" {
		e[field] = value
	}
}

// maxEpoch is the last second since 1970 that counts as a time, some 30,000 years away.
// The bound keeps arithmetic with the times of a cache from overflowing.
const maxEpoch = 1 << 40

// time returns the value of a field that has a time, in whole seconds since 1970. It
// returns the zero time if the field has none.
func (e entry) time(field string) time.Time {
	seconds, err := strconv.ParseInt(e.text(field), 10, 64)
	if err != nil || seconds <= 0 || seconds > maxEpoch {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

// unix returns t in the form that entry.time reads; "" for the zero time.
func unix(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.Unix(), 10)
}

// written returns when a token was stored: cached_at of an access token,
// last_modification_time of a refresh token. It is zero for any other entry.
func (e entry) written() time.Time {
	written := e.time("cached_at")
	if written.IsZero() {
		written = e.time("last_modification_time")
	}
	return written
}

// account returns the id of the account that an entry belongs to; "" if it belongs to
// none.
func (e entry) account() string { return e.text("home_account_id") }

// isOfAnotherIssuer reports whether both entries say who issued them, and not the same.
func (e entry) isOfAnotherIssuer(old entry) bool {
	mine := e.text(fieldIssuer)
	theirs := old.text(fieldIssuer)
	return mine != "" && theirs != "" && mine != theirs
}

// key returns the key under which MSAL for Python stores an entry. If this package used
// another key, MSAL would add an entry of its own where it should replace this one. All
// keys are in lower case but that of application metadata.
func (e entry) key(section string) string {
	account := e.account()
	environment := e.text("environment")
	client := e.text("client_id")
	realm := e.text("realm")
	target := e.text("target")
	switch section {
	case accessTokens:
		extra := e.text("ext_cache_key")
		if extra != "" {
			return lowerKey(account, environment, "atext", client, realm, target, extra)
		}
		return lowerKey(account, environment, "accesstoken", client, realm, target)
	case refreshTokens:
		// A refresh token serves all realms of an account, so that its key has none.
		return lowerKey(account, environment, "refreshtoken", client, "", target)
	case idTokens:
		return lowerKey(account, environment, "idtoken", client, realm, "")
	case accounts:
		return lowerKey(account, environment, realm)
	case appMetadata:
		return "appmetadata-" + environment + "-" + client
	}
	return ""
}

// lowerKey joins the parts of a key, in lower case.
func lowerKey(parts ...string) string { return strings.ToLower(strings.Join(parts, "-")) }

// target returns a list of scopes as MSAL stores it in the field target: sorted by code
// point, each scope once, separated by blanks.
func target(scope string) string {
	scopes := strings.Fields(scope)
	slices.Sort(scopes)
	return strings.Join(slices.Compact(scopes), " ")
}

// openIDScopes ask who the person is, and for a refresh token (OpenID Connect Core §5.4
// and §11). They give access to no API.
var openIDScopes = []string{"openid", "profile", "offline_access"}

// covers reports whether a token with the scopes in granted serves a caller who wants
// those in wanted. Both lists are separated by blanks. The openIDScopes need not be in
// granted.
func covers(granted, wanted string) bool {
	known := append(strings.Fields(granted), openIDScopes...)
	for _, scope := range strings.Fields(wanted) {
		if !slices.Contains(known, scope) {
			return false
		}
	}
	return true
}

// extCacheKey returns the hash by which MSAL for Python 1.39 tells apart tokens that were
// asked for with different extra parameters; "" if there are none.
func extCacheKey(params url.Values) string {
	if len(params) == 0 {
		return ""
	}
	hash := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(params)) {
		for _, value := range params[name] {
			fmt.Fprintf(hash, "%d:%s%d:%s", len(name), name, len(value), value)
		}
	}
	return strings.ToLower(base64.RawURLEncoding.EncodeToString(hash.Sum(nil)))
}
