package cdfauth

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// This file is the content of a Cache: MSAL's unified cache schema, as MSAL for Python and with it Cognite's Python SDK write it,
// so that a sign-in made by either serves the other. It is a JSON object of sections, each an object of entries by key. What is not
// known here is kept as it is.

// The sections, by which entries are also told apart (credential_type).
const (
	accessTokens  = "AccessToken"
	refreshTokens = "RefreshToken"
	idTokens      = "IdToken"
	accounts      = "Account"
	appMetadata   = "AppMetadata"
)

// Three fields of our own, which MSAL ignores: who issued an entry, since the schema knows of a provider no more than its host name
// and a path segment; by which grant an application got a token for itself; and the scopes it was granted, as the server said them
// (its target has those that were asked for).
const (
	fieldIssuer  = "issuer"
	fieldGrant   = "grant"
	fieldGranted = "granted"
)

// entry is one entry.
type entry map[string]any

// contents is the whole, as JSON values: whatever they mean, they are written as they were read.
type contents map[string]any

var errCacheContent = errors.New("the content is not of MSAL's cache format")

// parseContents reads a blob; none at all is an empty cache.
func parseContents(blob []byte) (contents, error) {
	c := contents{}
	if len(bytes.TrimSpace(blob)) == 0 {
		return c, nil
	}
	d := json.NewDecoder(bytes.NewReader(blob))
	d.UseNumber()
	// Its error is not passed on: it could quote what it read.
	if d.Decode(&c) != nil || c == nil || len(bytes.TrimSpace(blob[d.InputOffset():])) > 0 {
		return nil, errCacheContent
	}
	for _, name := range []string{accessTokens, refreshTokens, idTokens, accounts, appMetadata} {
		section, ok := c[name].(map[string]any)
		if !ok && c[name] != nil {
			return nil, errCacheContent
		}
		for _, e := range section {
			if _, ok := e.(map[string]any); !ok && e != nil {
				return nil, errCacheContent
			}
		}
	}
	return c, nil
}

// blob writes the whole as MSAL does: indented, and in ASCII, since Python reads the file in the encoding of its locale.
func (c contents) blob() ([]byte, error) {
	raw, err := json.MarshalIndent(c, "", "    ")
	if err != nil {
		return nil, errCacheContent
	}
	var b bytes.Buffer
	for _, r := range string(raw) { // whatever is not ASCII is within a string
		switch {
		case r < 0x80:
			b.WriteByte(byte(r))
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes(), nil
}

// entry returns an entry, nil if there is none.
func (c contents) entry(section, key string) entry {
	s, _ := c[section].(map[string]any)
	e, _ := s[key].(map[string]any)
	return e
}

// put adds an entry, under the key that MSAL gives it.
func (c contents) put(section string, e entry) {
	s, _ := c[section].(map[string]any)
	if s == nil {
		s = map[string]any{}
		c[section] = s
	}
	s[e.key(section)] = map[string]any(e)
}

// find returns the keys of entries that match, newest by the given field first.
func (c contents) find(section, newest string, match func(entry) bool) []string {
	var keys []string
	s, _ := c[section].(map[string]any)
	for key := range s {
		if e := c.entry(section, key); e != nil && match(e) {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b string) int {
		older := c.entry(section, b).time(newest).Compare(c.entry(section, a).time(newest))
		return cmp.Or(older, strings.Compare(a, b))
	})
	return keys
}

// text is a field's value: that of a string, the digits of a number, "" of anything else.
func (e entry) text(field string) string {
	switch v := e[field].(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}

// time is a field in Unix seconds, the zero Time if it is none.
func (e entry) time(field string) time.Time {
	n, err := strconv.ParseInt(e.text(field), 10, 64)
	if err != nil || n <= 0 || n > 1<<40 {
		return time.Time{}
	}
	return time.Unix(n, 0)
}

// account is the home_account_id, nil if there is none.
func (e entry) account() any {
	if s, ok := e["home_account_id"].(string); ok && s != "" {
		return s
	}
	return nil
}

func unix(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

// key is the name that MSAL for Python gives to an entry: another one would leave a stale twin behind when Python updates it.
func (e entry) key(section string) string {
	f := func(fields ...string) string {
		for i, name := range fields {
			fields[i] = e.text(name)
		}
		return strings.Join(fields, "-")
	}
	switch section {
	case accounts:
		return strings.ToLower(f("home_account_id", "environment", "realm"))
	case appMetadata:
		return "appmetadata-" + f("environment", "client_id")
	}
	kind, tail := strings.ToLower(section), f("realm", "target")
	switch section {
	case accessTokens:
		if ext := e.text("ext_cache_key"); ext != "" {
			kind, tail = "atext", tail+"-"+ext
		}
	case refreshTokens:
		tail = "-" + e.text("target")
	case idTokens:
		tail = e.text("realm") + "-"
	}
	return strings.ToLower(f("home_account_id", "environment") + "-" + kind + "-" + e.text("client_id") + "-" + tail)
}

// target is a list of scopes as MSAL writes it: sorted by code point.
func target(scope string) string {
	s := strings.Fields(scope)
	slices.Sort(s)
	return strings.Join(slices.Compact(s), " ")
}

// extCacheKey is how MSAL 1.39 tells tokens apart that were asked for with more parameters than the standard ones.
func extCacheKey(params map[string][]string) string {
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
