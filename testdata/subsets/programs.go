//go:build ignore

package main

import (
	"context"
	"net/http"
	"os"

	"subset/cdfauth"
)

// provider gets tokens with a client secret, and keeps them in memory for a second
// provider.
func provider(issuer string) (cdfauth.Provider, error) {
	secret, err := os.ReadFile("secret")
	if err != nil {
		return nil, err
	}
	p, err := cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
		Endpoint:     cdfauth.Issuer(issuer),
		ClientID:     "client",
		ClientSecret: cdfauth.SecretString(string(secret)),
		Options:      cdfauth.Options{Cache: new(cdfauth.MemoryCache)},
	})
	if err != nil {
		return nil, err
	}
	var client *http.Client
	client, err = cdfauth.NewHTTPClient(p, "https://greenfield.cognitedata.com")
	if err != nil {
		return nil, err
	}
	client.CloseIdleConnections()
	return cdfauth.NewFuncProvider(func(ctx context.Context) (cdfauth.Token, error) { return p.Token(ctx) })
}
