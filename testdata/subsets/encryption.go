//go:build ignore

package main

import "subset/cdfauth"

func provider(issuer string) (cdfauth.Provider, error) {
	cache, err := cdfauth.EncryptCache(new(cdfauth.MemoryCache), make([]byte, 32))
	if err != nil {
		return nil, err
	}
	return cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
		Endpoint:     cdfauth.TokenURL(issuer + "/token"),
		ClientID:     "client",
		ClientSecret: cdfauth.SecretFile("secret"),
		Options:      cdfauth.Options{Cache: cache},
	})
}
