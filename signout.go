//go:build go1.24

package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// This file forgets a person: in memory, and in the cache. The tokens stay good at
// the identity provider until they expire.

var errSeveralAccounts = errors.New("several accounts are signed in, " +
	"and LoginHint does not say which one to sign out")

// signOut removes the tokens of the account that is meant. It drops what is in
// memory twice: before, and after, for what a flight has brought meanwhile.
func (s *signIn) signOut(ctx context.Context) error {
	if ctx == nil {
		return errors.New("cdfauth: SignOut was called with a nil context")
	}
	s.forget()
	defer s.forget()
	unknown := s.loadMetadata(ctx)
	s.client.closeIdle()
	_, err := guarded(ctx, "Cache", func() error {
		return s.cache.Update(s.logAside(ctx), func(ctx context.Context, old []byte) ([]byte, error) {
			return s.withoutAccount(ctx, old, unknown)
		})
	})
	if err == nil {
		s.account.Store(nil)
	}
	return err
}

// forget drops what is in memory.
func (s *signIn) forget() {
	s.refresher.forget()
	s.fallback.Store(nil)
}

// withoutAccount returns the content of a cache without the account that is meant.
// unknown says why the metadata is not known, without which entries of the account
// may not have been recognised.
func (s *signIn) withoutAccount(ctx context.Context, old []byte, unknown error) ([]byte, error) {
	c, err := s.parse(ctx, old)
	if err != nil {
		return nil, err
	}
	person, several := s.selectAccount(c)
	if several {
		return nil, errSeveralAccounts
	}
	if person == nil && unknown != nil {
		return nil, unknown
	}
	if person == nil {
		err = s.checkNobodyElse(c)
		if err != nil {
			return nil, err
		}
	}
	removed := s.removeUnowned(c)
	if person != nil {
		s.removeAccount(c, person.id)
		removed = true
	}
	if !removed {
		return old, nil
	}
	return c.blob()
}

// checkNobodyElse returns an error if people are signed in, none of whom LoginHint
// means: to report success would leave in the cache what the caller wants to be gone.
func (s *signIn) checkNobodyElse(c msalCache) error {
	people := s.people(c)
	if len(people) == 0 {
		return nil
	}
	var names []string
	for _, person := range people {
		names = append(names, strconv.Quote(printable(person.username)))
	}
	return fmt.Errorf("LoginHint is %q, and nobody of that name is signed in, but %s",
		printable(s.cfg.loginHint), strings.Join(names, ", "))
}

// removeAccount removes this client's tokens of an account, and the account itself
// if no other client has tokens of it.
func (s *signIn) removeAccount(c msalCache, id string) {
	ofAccount := func(e entry) bool {
		return e.account() == id && e.text("environment") == s.environment()
	}
	others := 0
	for _, section := range tokenSections {
		c.remove(section, func(e entry) bool {
			return ofAccount(e) && s.issuedToUs(c, section, e)
		})
		others += len(c.find(section, ofAccount))
	}
	if others == 0 {
		c.remove(accounts, ofAccount)
	}
}

// removeUnowned removes this client's tokens that have no account, and reports
// whether there were any. Python's device code flow stores such when it redeems a
// person's refresh token. Those that are known to be of another issuer stay.
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
