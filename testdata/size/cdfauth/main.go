// Command cdfauth does with the package what the command floor beside it does without.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"cdfauth"
)

func main() {
	p, err := cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{Endpoint: cdfauth.TokenURL(os.Getenv("TOKEN_URL")), ClientID: "id",
		ClientSecret: cdfauth.SecretString(os.Getenv("SECRET"))})
	if err != nil {
		log.Fatal(err)
	}
	t, err := p.Token(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(t.AccessToken()))
}
