//go:build ignore

package main

import "subset/cdfauth"

func provider(issuer string) (cdfauth.Provider, error) {
	return cdfauth.NewClientCertificate(cdfauth.ClientCertificateConfig{
		Endpoint:    cdfauth.Authority(issuer + "/tenant"),
		ClientID:    "signing-client",
		Certificate: cdfauth.SecretFile("key.pem"),
	})
}
