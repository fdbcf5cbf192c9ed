// The program is an identity provider for the programs of .ci/subsets, which are in
// modules of their own. It writes what they need to know into the folder that it is
// given, and serves until its standard input ends.
package main

import (
	"crypto/rsa"
	"io"
	"log"
	"os"
	"path/filepath"
	"time"

	"cdfauth/internal/idptest"
)

func main() {
	folder := os.Args[1]
	idp := idptest.New()
	idp.Interval = time.Second // the person who enters device codes is a program
	public, keyAndCertificate, err := idptest.NewCertificate()
	if err != nil {
		log.Fatal(err)
	}
	idp.Keys = map[string]*rsa.PublicKey{"signing-client": public}
	_, stop, err := idp.Listen()
	if err != nil {
		log.Fatal(err)
	}
	defer stop()
	write := func(name, text string) {
		path := filepath.Join(folder, name)
		err := os.WriteFile(path+".new", []byte(text), 0o600)
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	write("key.pem", keyAndCertificate)
	write("secret", idp.Clients["client"])
	write("issuer", idp.Issuer) // the last: whoever waits for it finds all
	_, _ = io.Copy(io.Discard, os.Stdin)
}
