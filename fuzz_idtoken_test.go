package cdfauth

import (
	"slices"
	"strings"
	"testing"
)

// FuzzIDToken: an ID token is believed only if it is whole, of the issuer, for this client,
// not expired and of this sign-in (OpenID Connect Core §3.1.3.7).
func FuzzIDToken(f *testing.F) {
	c, _ := answering(f, Issuer("https://idp.test"))
	u := &signIn{tokenStore: tokenStore{client: c}}
	const nonce = "n-0S6_WzA2Mj"
	token := func(claims string) string { return "e30." + base64URL(claims) + ".e30" }
	good := `{"iss":"https://idp.test","sub":"1","aud":"app","exp":4102444800,"nonce":"` + nonce + `"}`
	for _, claims := range []string{good, strings.Replace(good, `"app"`, `["app"]`, 1),
		strings.Replace(good, `"app"`, `["app","b"],"azp":"app"`, 1),
		strings.Replace(good, "4102444800", "1", 1),
		strings.Replace(good, "4102444800", "1e400", 1), strings.Replace(good, `"1"`, `""`, 1),
		`{}`, `null`, `[]`} {
		f.Add(token(claims))
	}
	f.Add(strings.Repeat(".", 1<<16))
	f.Add("e30.e30")
	f.Fuzz(func(t *testing.T, raw string) {
		s, err := u.verifyIDToken(grant{response: &tokenResponse{IDToken: raw}},
			"https://idp.test", nonce)
		switch {
		case err != nil && !sayable(err, nonce):
			t.Fatalf("%q", err)
		case err == nil && raw != "" &&
			(s.Iss != "https://idp.test" || s.Sub == "" || s.Nonce != nonce || !(s.Exp > 1.7e9) ||
				!slices.Contains(s.Aud, "app") || strings.Count(raw, ".") != 2):
			t.Fatalf("believed: %+v", s)
		}
	})
}
