//go:build go1.24

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
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// The content of a Cache is MSAL's unified cache schema, as MSAL for Python and with it Cognite's Python SDK write it, so that a sign-in made by either serves
// the other: a JSON object of sections, each an object of entries by key. What is not known here is kept as the JSON values that it is.
type msalCache map[string]any

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

var errCacheContent = errors.New("the content is not of MSAL's cache format")

func parseMSALCache(blob []byte) (msalCache, error) { // reads a blob; none at all is an empty cache. No error is passed on: it could quote what it read.
	c := msalCache{}
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

func isUnreadable(blob []byte) bool {
	_, err := parseMSALCache(blob)
	return err != nil
}

func (c msalCache) blob() ([]byte, error) { // writes the whole, in ASCII: Python reads the file in the encoding of its locale
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

func (c msalCache) put(section string, e entry) { // replaces an entry; of one that is no token, fields that only others know stay
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

func (c msalCache) remove(section string, match func(entry) bool) {
	s, _ := c[section].(map[string]any)
	maps.DeleteFunc(s, func(_ string, v any) bool { e, ok := v.(map[string]any); return ok && match(e) })
}

func (c msalCache) find(section string, match func(entry) bool) (found []entry) { // returns the entries that match, the one written last first
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
