//go:build go1.24

package cdfauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
)

// This file reads the configuration of Cognite's Python SDK. A configuration is one
// JSON object with one key, the kind of credentials, whose value is an object of
// that kind's keys: the structs of configkinds.go. One error tells all that is wrong, by
// the names that the author of the configuration knows, and without a value that could be
// a secret.

// Load returns the provider that a configuration describes. The configuration is JSON
// of the form that CredentialProvider.load of Cognite's Python SDK takes: an object
// with one key, the kind of credentials. Its value is an object with these keys:
//
//	token               token (or the token itself in place of the object)
//	client_credentials  token_url, client_id, client_secret; scopes; all others are
//	                    parameters of the requests, such as audience
//	client_certificate  authority_url, client_id, certificate (PEM text);
//	                    cert_thumbprint, scopes
//	device_code         client_id, authority_url or oauth_discovery_url (see Discovery),
//	                    scopes or cdf_cluster; login_hint, token_cache_path,
//	                    mem_cache_only, clear_cache; all others are parameters of the
//	                    requests, such as audience
//	interactive         client_id, authority_url or oauth_discovery_url; scopes or
//	                    cdf_cluster, audience, redirect_port, prompt, login_hint,
//	                    token_cache_path, mem_cache_only, clear_cache
//
// All kinds but token also take token_expiry_leeway_seconds. A key that is not in the
// list is an error, unless all others are parameters. A key whose value is null counts as
// missing.
//
// If scopes are missing or empty, a cdf_cluster stands for the scopes IDENTITY and
// user_impersonation of that cluster. A device_code needs one of the two, as in the SDK.
// An empty list of scopes says that none is wanted.
//
// A token_cache_path that begins with ~/ is in the user's home directory. With
// mem_cache_only, the path does not count. With clear_cache, the provider ignores what the
// cache contains, until its first attempt to sign somebody in, or its SignOut. That
// replaces or removes the content, even if nobody signs in.
//
// Load takes from o what the configuration does not say. Its error names each key that
// is wrong.
func Load(config []byte, o Options) (Provider, error) {
	var top map[string]json.RawMessage
	if json.Unmarshal(config, &top) != nil || len(top) != 1 {
		return nil, fmt.Errorf("cdfauth: Load: want one JSON object (not YAML) with one key, "+
			"the kind: %s", kindNames)
	}
	kind := slices.Collect(maps.Keys(top))[0]
	credentials := newCredentials(kind)
	if credentials == nil {
		return nil, fmt.Errorf("cdfauth: Load: %.64q is no kind of credentials: want one of %s",
			kind, kindNames)
	}
	value := top[kind]
	var keys map[string]json.RawMessage
	if kind == "token" && jsonType(value) == jsonString {
		keys = map[string]json.RawMessage{"token": value}
	} else if json.Unmarshal(value, &keys) != nil || keys == nil {
		return nil, fmt.Errorf("cdfauth: Load: %s is %s: want an object of its keys",
			kind, jsonType(value))
	}
	wrong := &problems{}
	wrong.decode(keys, credentials)
	provider, err := newProvider(credentials, o, wrong)
	if err != nil {
		return nil, fmt.Errorf("cdfauth: Load: %s: %w", kind, err)
	}
	return provider, nil
}

// newProvider returns the provider for credentials, which were read from a configuration
// or from the environment. Reading them has noted in wrong what is wrong with them. The
// error of newProvider has all of that, and what check or the constructor finds.
func newProvider(credentials kindConfig, o Options, wrong *problems) (Provider, error) {
	credentials.check(wrong)
	if err := wrong.err(); err != nil {
		return nil, err
	}
	provider, err := credentials.provider(o)
	if err != nil {
		wrong.addError("", err)
		return nil, wrong.err()
	}
	return provider, nil
}

// problems are what is wrong with a configuration.
type problems struct {
	// variables maps a key to the name of the environment variable that its value came
	// from. It is nil if the values came from a configuration.
	variables map[string]string

	// names are the names of the keys and variables that have a problem.
	names []string

	// texts are the sentences about the problems.
	texts []string
}

// name returns what the author of the configuration calls a key.
func (p *problems) name(key string) string {
	if variable, ok := p.variables[key]; ok {
		return variable
	}
	return key
}

// add notes what is wrong with a key. The problem continues the sentence that the name
// of the key begins. Only the first problem of a key counts: the others follow from it.
func (p *problems) add(key, problem string, args ...any) {
	name := p.name(key)
	if slices.Contains(p.names, name) {
		return
	}
	p.names = append(p.names, name)
	p.texts = append(p.texts, name+" "+fmt.Sprintf(problem, args...))
}

// addError notes an error, if there is one, as a problem of the key. If key is "", the
// problem is that of the key which belongs to the field that the error names.
func (p *problems) addError(key string, err error) {
	var wrong *fieldError
	switch {
	case err == nil:
	case errors.As(err, &wrong) && key != "":
		p.add(key, "%v", wrong.err)
	case errors.As(err, &wrong):
		p.add(keyOfField(wrong.field), "%v", wrong.err)
	default:
		p.texts = append(p.texts, strings.TrimPrefix(err.Error(), "cdfauth: "))
	}
}

// require notes that a key is missing if its value is empty.
func (p *problems) require(key string, value configText) {
	if value == "" {
		p.add(key, "is missing")
	}
}

// err returns all problems in one error, or nil.
func (p *problems) err() error {
	if len(p.texts) == 0 {
		return nil
	}
	return errors.New(strings.Join(p.texts, "; "))
}

// keyOfField returns the key that a field of the constructors' configurations comes from.
// For a field that comes from no key, such as Leeway in Options, it returns the field's name.
func keyOfField(field string) string {
	switch field {
	case "ClientID":
		return "client_id"
	case "ClientSecret":
		return "client_secret"
	case "Scopes":
		return "scopes"
	case "Params":
		return "the configuration"
	case "Certificate":
		return "certificate"
	case "Thumbprint":
		return "cert_thumbprint"
	case "RedirectPort":
		return "redirect_port"
	case "Prompt":
		return "prompt"
	}
	return field
}

// decode sets the fields of credentials, a pointer to a struct, to the values of the
// keys that their json tags name. If a field has the tag "*", all other keys are parameters
// and go there. Otherwise they are problems. Unlike package json, decode takes a key in the
// right case only, and goes on after a bad value.
func (p *problems) decode(values map[string]json.RawMessage, credentials any) {
	fields := reflect.ValueOf(credentials).Elem()
	left := maps.Clone(values)
	var known []string
	var params *url.Values
	for _, field := range reflect.VisibleFields(fields.Type()) {
		key := field.Tag.Get("json")
		if key == "" {
			// This is an embedded struct, whose fields follow.
			continue
		}
		target := fields.FieldByIndex(field.Index).Addr().Interface()
		if key == "*" {
			params = target.(*url.Values)
			continue
		}
		known = append(known, key)
		p.decodeValue(key, left[key], target)
		delete(left, key)
	}
	for _, key := range slices.Sorted(maps.Keys(left)) {
		if params == nil {
			p.add(fmt.Sprintf("%.64q", key), "is no key of it: want %s",
				strings.Join(slices.Sorted(slices.Values(known)), ", "))
			continue
		}
		var value configText
		p.decodeValue(key, left[key], &value)
		if value != "" {
			addParam(params, key, value)
		}
	}
}

// decodeValue sets target to the value of a key. If there is no value, or it is null,
// target stays as it is.
func (p *problems) decodeValue(key string, raw json.RawMessage, target any) {
	if len(raw) == 0 || jsonType(raw) == jsonNull {
		return
	}
	if err := json.Unmarshal(raw, target); err != nil {
		p.add(key, "%v", err)
	}
}

// addParam sets a parameter of the requests.
func addParam(params *url.Values, name string, value configText) {
	if *params == nil {
		*params = url.Values{}
	}
	params.Set(name, string(value))
}

// The types of JSON values, as errors name them.
const (
	jsonString  = "a string"
	jsonObject  = "an object"
	jsonList    = "a list"
	jsonBoolean = "a boolean"
	jsonNull    = "null"
	jsonNumber  = "a number"
)

// jsonType returns the type of a JSON value, which must be valid and without blanks around
// it. It never shows the value.
func jsonType(raw json.RawMessage) string {
	switch raw[0] {
	case '"':
		return jsonString
	case '{':
		return jsonObject
	case '[':
		return jsonList
	case 't', 'f':
		return jsonBoolean
	case 'n':
		return jsonNull
	}
	return jsonNumber
}

// A configText is a string. It takes a number as it is written, because YAML makes numbers
// of identifiers that consist of digits.
type configText string

// UnmarshalJSON implements json.Unmarshaler.
func (t *configText) UnmarshalJSON(raw []byte) error {
	switch jsonType(raw) {
	case jsonString:
		return json.Unmarshal(raw, (*string)(t))
	case jsonNumber:
		*t = configText(raw)
		return nil
	}
	return fmt.Errorf("is %s: want a string", jsonType(raw))
}

// A configScopes is a list of scopes, or one string of scopes separated by blanks. It is
// nil if the configuration has no scopes, and empty if it says that none is wanted.
type configScopes []string

// UnmarshalJSON implements json.Unmarshaler.
func (s *configScopes) UnmarshalJSON(raw []byte) error {
	if jsonType(raw) != jsonList {
		var all configText
		if err := all.UnmarshalJSON(raw); err != nil {
			return err
		}
		*s = append(configScopes{}, strings.Fields(string(all))...)
		return nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	*s = configScopes{}
	for i, element := range list {
		var scope configText
		if err := scope.UnmarshalJSON(element); err != nil {
			return fmt.Errorf("has an element, [%d], that %w", i, err)
		}
		*s = append(*s, string(scope))
	}
	return nil
}

// A configFlag is true or false.
type configFlag bool

// UnmarshalJSON implements json.Unmarshaler.
func (f *configFlag) UnmarshalJSON(raw []byte) error {
	if jsonType(raw) != jsonBoolean {
		return fmt.Errorf("is %s: want true or false", jsonType(raw))
	}
	return json.Unmarshal(raw, (*bool)(f))
}
