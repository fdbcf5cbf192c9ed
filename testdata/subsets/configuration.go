//go:build ignore

package main

import (
	"encoding/json"
	"os"

	"subset/cdfauth"
)

func provider(issuer string) (cdfauth.Provider, error) {
	secret, err := os.ReadFile("secret")
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"client_credentials": map[string]string{
			"token_url":     issuer + "/token",
			"client_id":     "client",
			"client_secret": string(secret),
		},
	})
	if err != nil {
		return nil, err
	}
	return cdfauth.Load(config, cdfauth.Options{})
}
