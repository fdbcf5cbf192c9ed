// Command floor gets a token with net/http alone, and none of what a program needs beyond that: .ci/run weighs the package against it.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
)

func main() {
	r, err := http.PostForm(os.Getenv("TOKEN_URL"), url.Values{"grant_type": {"client_credentials"}, "client_id": {"id"}, "client_secret": {os.Getenv("SECRET")}})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Body.Close()
	var t struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(r.Body).Decode(&t); err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(t.AccessToken))
}
