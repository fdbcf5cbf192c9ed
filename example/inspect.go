package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"cdfauth"
)

// inspect asks CDF who the token is for.
func inspect(ctx context.Context, p cdfauth.Provider, origin string, out io.Writer) error {
	client, err := cdfauth.NewHTTPClient(p, origin)
	if err != nil {
		return err
	}
	client.Timeout = time.Minute
	who, err := ask(ctx, client, origin)
	if err != nil {
		return err
	}
	token, err := p.Token(ctx) // from memory
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "CDF at %s knows this token: %s; it expires %s.\n", origin, who, in(token.Expiry()))
	return nil
}

// ask calls the API and says what it answered.
func ask(ctx context.Context, client *http.Client, origin string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, origin+"/api/v1/token/inspect", nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the API answered %s", resp.Status)
	}
	who, err := readInspection(resp.Body)
	if err != nil {
		return "", err
	}
	return who.String(), nil
}

// An inspection is what CDF says of a token.
type inspection struct {
	subject  string
	projects []string
}

func (i inspection) String() string {
	return fmt.Sprintf("%q, projects %q", i.subject, i.projects)
}

// readInspection reads the answer of /api/v1/token/inspect.
func readInspection(body io.Reader) (inspection, error) {
	var answer struct {
		Subject  string `json:"subject"`
		Projects []struct {
			Name string `json:"projectUrlName"`
		} `json:"projects"`
	}
	err := json.NewDecoder(io.LimitReader(body, 1<<20)).Decode(&answer)
	if err != nil {
		return inspection{}, errors.New("the API's answer is not JSON")
	}
	found := inspection{subject: answer.Subject}
	for _, project := range answer.Projects {
		found.projects = append(found.projects, project.Name)
	}
	return found, nil
}

// in says when a token expires in a newcomer's words.
func in(expiry time.Time) string {
	if expiry.IsZero() {
		return "at an unknown time"
	}
	return "in " + time.Until(expiry).Round(time.Second).String()
}
