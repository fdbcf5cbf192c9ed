//go:build ignore

// The program of each set is this file and the one with the set's name, which has
// the function provider.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
)

func main() {
	issuer, err := os.ReadFile("issuer")
	if err != nil {
		log.Fatal(err)
	}
	p, err := provider(string(issuer))
	if err != nil {
		log.Fatal(err)
	}
	token, err := p.Token(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	if token.AccessToken() == "" {
		log.Fatal("the token is empty")
	}
	fmt.Println("got a token")
}
