//go:build ignore

package main

import (
	"context"

	"subset/cdfauth"
)

func provider(issuer string) (cdfauth.Provider, error) {
	return cdfauth.NewDeviceCode(cdfauth.DeviceCodeConfig{
		Endpoint: cdfauth.Issuer(issuer),
		ClientID: "app",
		Scopes:   []string{"read"},
		ShowCode: func(context.Context, cdfauth.DeviceAuthorization) error { return nil },
		Options:  cdfauth.Options{Cache: new(cdfauth.MemoryCache)},
	})
}
