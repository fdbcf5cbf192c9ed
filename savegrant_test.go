package cdfauth

import "testing"

// TestAccountSaysWhichKindOfAuthorityItIs: MSAL looks for accounts of AD FS by their
// authority_type, which is ADFS, and gives those of all other providers the type MSSTS.
func TestAccountSaysWhichKindOfAuthorityItIs(t *testing.T) {
	for authority, want := range map[string]string{
		"https://idp.test/adfs":                                 "ADFS",
		"https://idp.test/0a1b2c3d-0000-1111-2222-333344445555": "MSSTS",
	} {
		p, err := NewInteractive(InteractiveConfig{
			Endpoint: Authority(authority), ClientID: "app", Options: Options{Cache: &MemoryCache{}},
		})
		must(t, err)
		c := msalCache{}
		p.flow().saveAccount(c, claims{}, account{id: "ada"})
		saved := c.find(accounts, func(entry) bool { return true })
		if len(saved) != 1 || saved[0].text("authority_type") != want {
			t.Errorf("%s: %v, want %s", authority, saved, want)
		}
	}
}
