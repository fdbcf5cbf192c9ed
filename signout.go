//go:build go1.24

package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// This file signs a person out: it removes their tokens from memory and from the cache. It
// tells the identity provider nothing. There, the tokens stay valid until they expire.

// errSeveralAccounts is the error of SignOut if it is not known whom to sign out.
var errSeveralAccounts = errors.New("several accounts are signed in, " +
	"and LoginHint does not say which one to sign out")

// signOut removes the tokens of the account that is meant, from memory and from the cache.
// If the cache fails, they stay there, and signOut returns an error. It drops what is in
// memory twice: at the end once more, because a flight may have brought a token meanwhile.
func (s *signIn) signOut(ctx context.Context) error {
	if ctx == nil {
		return errors.New("cdfauth: SignOut was called with a nil context")
	}
	s.forget()
	defer s.forget()
	unavailable := s.loadMetadata(ctx)
	s.client.closeIdle()
	_, err := guarded(ctx, "Cache", func() error {
		return s.cache.Update(s.logAside(ctx), func(ctx context.Context, old []byte) ([]byte, error) {
			return s.withoutAccount(ctx, old, unavailable)
		})
	})
	if err == nil {
		s.account.Store(nil)
	}
	return err
}

// forget drops the tokens that are in memory.
func (s *signIn) forget() {
	s.refresher.forget()
	s.fallback.Store(nil)
}

// withoutAccount returns the content of a cache without the account that is meant. It
// fails if the cache has people, and it is not known which of them is meant. unavailable
// is the error if the metadata could not be loaded. Then an account that was not found may
// only not have been recognised, and withoutAccount fails with that error.
func (s *signIn) withoutAccount(
	ctx context.Context, old []byte, unavailable error,
) ([]byte, error) {
	c, err := s.parse(ctx, old)
	if err != nil {
		return nil, err
	}
	person, several := s.selectAccount(c)
	switch {
	case several:
		return nil, errSeveralAccounts
	case person == nil && unavailable != nil:
		return nil, unavailable
	case person == nil:
		err = s.checkNobodyElse(c)
		if err != nil {
			return nil, err
		}
	}
	changed := s.removeUnowned(c)
	if person != nil {
		s.removeAccount(c, person.id)
		changed = true
	}
	if !changed {
		return old, nil
	}
	return c.blob()
}

// checkNobodyElse returns an error if people are signed in, none of whom LoginHint
// means. If SignOut succeeded then, it would leave in the cache what its caller wants to
// be gone.
func (s *signIn) checkNobodyElse(c msalCache) error {
	var names []string
	for _, person := range s.people(c) {
		names = append(names, strconv.Quote(printable(person.username)))
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("LoginHint is %q, and nobody of that name is signed in, but %s",
		printable(s.cfg.loginHint), strings.Join(names, ", "))
}

// removeAccount removes this client's tokens of an account. It also removes the account
// itself, unless other tokens of it are left: another client's or another provider's.
func (s *signIn) removeAccount(c msalCache, id string) {
	ofAccount := func(e entry) bool {
		return e.account() == id && e.text("environment") == s.environment()
	}
	left := 0
	for _, section := range tokenSections {
		c.remove(section, func(e entry) bool {
			return ofAccount(e) && s.issuedToUs(c, section, e)
		})
		left += len(c.find(section, ofAccount))
	}
	if left == 0 {
		c.remove(accounts, ofAccount)
	}
}

// removeUnowned removes this client's tokens that have no account, and reports whether
// there were any. The device code flow of the Python SDK stores such tokens when it redeems
// a person's refresh token. Tokens stay if their entries name another issuer.
func (s *signIn) removeUnowned(c msalCache) bool {
	_, issuer := s.realmAndIssuer()
	unowned := func(e entry) bool {
		said := e.text(fieldIssuer)
		return e.account() == "" && s.ofThisClient(e) && (said == "" || said == issuer)
	}
	removed := false
	for _, section := range tokenSections {
		if len(c.find(section, unowned)) > 0 {
			c.remove(section, unowned)
			removed = true
		}
	}
	return removed
}
