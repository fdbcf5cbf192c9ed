package cdfauth

import (
	"bytes"
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

// This file is the content of a Cache: MSAL's unified cache schema, as MSAL for
// Python and with it Cognite's Python SDK write it, so that a sign-in made by
// either serves the other. It is a JSON object of sections, each an object of
// entries by key. What is not known here is kept as it is.

// The sections, by which entries are also told apart (credential_type).
const (
	accessTokens  = "AccessToken"
	refreshTokens = "RefreshToken"
	idTokens      = "IdToken"
	accounts      = "Account"
	appMetadata   = "AppMetadata"
)

// Two fields of our own, which MSAL ignores: who issued an entry, since the
// schema knows of a provider no more than its host name and a path segment; and
// by which grant an application got a token for itself.
const (
	fieldIssuer = "issuer"
	fieldGrant  = "grant"
)

// entry is one entry, its fields as they are in JSON.
type entry map[string]json.RawMessage

// contents is the whole.
type contents struct {
	top      map[string]json.RawMessage
	sections map[string]map[string]entry // those that were looked into
}

var errCacheContent = errors.New("is not MSAL's cache format")

// parseContents reads a blob; none at all is an empty cache.
func parseContents(blob []byte) (*contents, error) {
	c := &contents{top: map[string]json.RawMessage{}, sections: map[string]map[string]entry{}}
	if len(bytes.TrimSpace(blob)) == 0 {
		return c, nil
	}
	// The error is not passed on: it could quote what it read.
	if json.Unmarshal(blob, &c.top) != nil || c.top == nil {
		return nil, errCacheContent
	}
	for _, name := range []string{accessTokens, refreshTokens, idTokens, accounts, appMetadata} {
		var s map[string]entry
		if raw, ok := c.top[name]; ok && json.Unmarshal(raw, &s) != nil {
			return nil, errCacheContent
		}
		if s == nil { // absent or null
			s = map[string]entry{}
		}
		c.sections[name] = s
	}
	return c, nil
}

// blob writes the whole as MSAL does: indented, and in ASCII, since Python reads
// the file in the encoding of its locale.
func (c *contents) blob() ([]byte, error) {
	top := maps.Clone(c.top)
	for name, s := range c.sections {
		if len(s) == 0 {
			if _, was := top[name]; !was {
				continue
			}
		}
		raw, err := json.Marshal(s)
		if err != nil {
			return nil, errCacheContent
		}
		top[name] = raw
	}
	raw, err := json.MarshalIndent(top, "", "    ")
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

// text is a field's value: that of a string, the digits of a number, "" of
// anything else.
func (e entry) text(field string) string {
	var v any
	if json.Unmarshal(e[field], &v) != nil {
		return ""
	}
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', 0, 64)
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

// set gives string values to fields; "" is null for home_account_id and
// local_account_id, where MSAL writes it so.
func (e entry) set(pairs ...string) {
	for i := 0; i+1 < len(pairs); i += 2 {
		raw, _ := json.Marshal(pairs[i+1])
		if pairs[i+1] == "" && (pairs[i] == "home_account_id" || pairs[i] == "local_account_id") {
			raw = []byte("null")
		}
		e[pairs[i]] = raw
	}
}

func unix(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

// key is the name that MSAL for Python gives to an entry: another one would
// leave a stale twin behind when Python updates it.
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

// put adds an entry, keeping what an older one of the same key has besides.
func (c *contents) put(section string, e entry) {
	key := e.key(section)
	if old := c.sections[section][key]; old != nil && section != accessTokens {
		merged := maps.Clone(old)
		maps.Copy(merged, e)
		e = merged
	}
	c.sections[section][key] = e
}

// find returns the entries of a section that match, newest by the given field
// first, with their keys.
func (c *contents) find(section, newest string, match func(entry) bool) []string {
	var keys []string
	for key, e := range c.sections[section] {
		if e != nil && match(e) {
			keys = append(keys, key)
		}
	}
	s := c.sections[section]
	slices.SortFunc(keys, func(a, b string) int {
		if d := s[b].time(newest).Compare(s[a].time(newest)); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return keys
}

// target is a list of scopes as MSAL writes it: sorted by code point.
func target(scope string) string {
	s := strings.Fields(scope)
	slices.Sort(s)
	return strings.Join(slices.Compact(s), " ")
}

// covers reports whether all scopes asked for, but for those of OpenID Connect,
// which access tokens do not have, are in the target.
func covers(target, asked string) bool {
	have := strings.Fields(target)
	for _, s := range strings.Fields(asked) {
		if s != "openid" && s != "profile" && s != "offline_access" && !slices.Contains(have, s) {
			return false
		}
	}
	return true
}

// extCacheKey is how MSAL 1.39 tells tokens apart that were asked for with more
// parameters than the standard ones.
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
