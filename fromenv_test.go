package cdfauth

import (
	"strings"
	"testing"
)

// TestFromEnvSendsWhatTheToolkitSends: an environment that works for Cognite's toolkit works
// here. For each of its providers and flows, the same variables and defaults lead to the
// same requests.
func TestFromEnvSendsWhatTheToolkitSends(t *testing.T) {
	t.Parallel()
	const tenant = "11111111-2222-3333-4444-555555555555"
	const ms = "https://login.microsoftonline.com/" + tenant
	const cluster = "https://greenfield.cognitedata.com"
	const creds = " CDF_CLUSTER=greenfield CDF_PROJECT=demo IDP_CLIENT_ID=app IDP_CLIENT_SECRET=s"
	for _, tt := range []struct{ env, want string }{
		{"IDP_TENANT_ID=" + tenant + creds,
			"POST " + ms + "/oauth2/v2.0/token audience=" + cluster +
				" client_id=app client_secret=s grant_type=client_credentials scope=" + cluster + "/.default"},
		{"LOGIN_FLOW=Client_Credentials PROVIDER=entra_id IDP_TOKEN_URL=https://other.test/t IDP_TENANT_ID=" +
			tenant + " IDP_SCOPES=a,b IDP_AUDIENCE=api" + creds,
			"POST https://other.test/t audience=api client_id=app client_secret=s grant_type=client_credentials scope=a b"},
		{"PROVIDER=auth0 IDP_TOKEN_URL=https://a.auth0.test/oauth/token" + creds,
			"POST https://a.auth0.test/oauth/token audience=https://demo.fusion.cognite.com/demo client_id=app client_secret=s grant_type=client_credentials scope=IDENTITY user_impersonation"},
		{"PROVIDER=cdf IDP_TOKEN_URL=https://not.this" + creds,
			"POST https://auth.cognite.com/oauth2/token client_id=app client_secret=s grant_type=client_credentials"},
		{"PROVIDER=other IDP_TOKEN_URL=https://o.test/token" + creds,
			"POST https://o.test/token audience=" + cluster +
				" client_id=app client_secret=s grant_type=client_credentials scope=" + cluster + "/.default"},
		{"PROVIDER=other IDP_TOKEN_URL=https://o.test/token IDP_CLIENT_ID=app IDP_CLIENT_SECRET=s IDP_AUDIENCE=x IDP_SCOPES=y",
			"POST https://o.test/token audience=x client_id=app client_secret=s grant_type=client_credentials scope=y"},
		{"LOGIN_FLOW=device_code CDF_CLUSTER=greenfield IDP_TENANT_ID=" + tenant,
			"GET " + ms + "/v2.0/.well-known/openid-configuration\nPOST " + ms +
				"/oauth2/v2.0/devicecode client_id=fb9d503b-ac25-44c7-a75d-8fbcd3a206bd scope=" + cluster +
				"/IDENTITY " + cluster + "/user_impersonation openid profile offline_access"},
		{"LOGIN_FLOW=device_code IDP_DISCOVERY_URL=https://o.test IDP_TENANT_ID=" + tenant + creds,
			"GET " + ms + "/v2.0/.well-known/openid-configuration\nPOST " + ms +
				"/oauth2/v2.0/devicecode client_id=app scope=" + cluster + "/IDENTITY " + cluster +
				"/user_impersonation openid profile offline_access"},
		{"LOGIN_FLOW=device_code PROVIDER=other IDP_DISCOVERY_URL=https://o.test IDP_AUTHORITY_URL=https://not.this" +
			creds,
			"GET https://o.test/.well-known/openid-configuration\nPOST https://o.test/device audience=" +
				cluster + " client_id=app scope=" + cluster + "/IDENTITY " + cluster +
				"/user_impersonation openid profile offline_access"},
		// For Entra's device code the toolkit sends no audience, and the tokens in its cache
		// are for none.
		{"LOGIN_FLOW=device_code IDP_AUDIENCE=api IDP_TENANT_ID=" + tenant + creds,
			"GET " + ms + "/v2.0/.well-known/openid-configuration\nPOST " + ms +
				"/oauth2/v2.0/devicecode client_id=app scope=" + cluster + "/IDENTITY " + cluster +
				"/user_impersonation openid profile offline_access"},
		// One .env may serve several providers. CDF's own uses neither scopes nor audience.
		{"PROVIDER=cdf IDP_SCOPES=a,b IDP_AUDIENCE=api" + creds,
			"POST https://auth.cognite.com/oauth2/token client_id=app client_secret=s grant_type=client_credentials"},
		{"PROVIDER=cdf IDP_CLIENT_ID=app IDP_CLIENT_SECRET=s",
			"POST https://auth.cognite.com/oauth2/token client_id=app client_secret=s grant_type=client_credentials"},
		// For a device code, the scopes come from the cluster, whatever the provider.
		{"LOGIN_FLOW=device_code PROVIDER=cdf IDP_DISCOVERY_URL=https://o.test" + creds,
			"GET https://o.test/.well-known/openid-configuration\nPOST https://o.test/device audience=" +
				cluster + " client_id=app scope=" + cluster + "/IDENTITY " + cluster +
				"/user_impersonation openid profile offline_access"},
		{"LOGIN_FLOW=device_code PROVIDER=auth0 IDP_DISCOVERY_URL=https://o.test" + creds,
			"GET https://o.test/.well-known/openid-configuration\nPOST https://o.test/device audience=https://demo.fusion.cognite.com/demo client_id=app scope=" +
				cluster + "/IDENTITY " + cluster + "/user_impersonation openid profile offline_access"},
		{"LOGIN_FLOW=device_code PROVIDER=auth0 IDP_DISCOVERY_URL=https://o.test IDP_SCOPES=mine" + creds,
			"GET https://o.test/.well-known/openid-configuration\nPOST https://o.test/device audience=https://demo.fusion.cognite.com/demo client_id=app scope=mine openid profile offline_access"},
	} {
		sent := wire(t, func(o Options) (Provider, error) { return FromEnv(environment(tt.env), o) })
		if got := strings.Join(sent, "\n"); got != tt.want {
			t.Errorf("%s\nsent %s\nwant %s", tt.env, got, tt.want)
		}
	}
	for _, tt := range []struct{ env, endpoint, scope, params string }{
		{"IDP_TENANT_ID=" + tenant, "Authority " + ms, cluster + "/.default", ""},
		{"IDP_TOKEN_URL=" + ms + "/oauth2/v2.0/token", "Authority " + ms, cluster + "/.default", ""},
		{"IDP_AUTHORITY_URL=https://a.test/t IDP_DISCOVERY_URL=https://o.test IDP_TENANT_ID=" + tenant,
			"Authority https://a.test/t", cluster + "/.default", ""},
		{"PROVIDER=other IDP_AUTHORITY_URL=https://a.test/t IDP_DISCOVERY_URL=https://o.test",
			"Authority https://a.test/t", cluster + "/.default", ""},
		{"PROVIDER=other IDP_DISCOVERY_URL=https://o.test", "Discovery https://o.test",
			cluster + "/.default", ""},
		{"PROVIDER=auth0 IDP_DISCOVERY_URL=https://o.test IDP_AUDIENCE=mine", "Discovery https://o.test",
			"IDENTITY user_impersonation", ""},
		// Interactive has no audience, set or not, whatever the provider.
		{"IDP_AUDIENCE=mine IDP_TENANT_ID=" + tenant, "Authority " + ms, cluster + "/.default", ""},
		{"PROVIDER=cdf IDP_AUDIENCE=mine IDP_SCOPES=a IDP_AUTHORITY_URL=https://a.test/t",
			"Authority https://a.test/t", "a", ""},
		{"PROVIDER=cdf IDP_AUTHORITY_URL=https://a.test/t", "Authority https://a.test/t",
			cluster + "/.default", ""},
	} {
		credentials, wrong := fromToolkit(environment("LOGIN_FLOW=interactive " + tt.env + creds))
		credentials.check(wrong)
		c, err := credentials.(*browserCredentials).config(Options{})
		must(t, err)
		if got := c.Endpoint.kind + " " + c.Endpoint.url; wrong.err() != nil || got != tt.endpoint ||
			strings.Join(c.Scopes, " ") != tt.scope || c.Params.Encode() != tt.params ||
			c.ClientID != "app" {
			t.Errorf("%s: %v %s, %q, %q; want %s, %q, %q", tt.env, wrong.err(), got, c.Scopes,
				c.Params.Encode(), tt.endpoint, tt.scope, tt.params)
		}
	}
	p, err := FromEnv(environment("LOGIN_FLOW=token CDF_TOKEN=my-token"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if tok, err := p.Token(t.Context()); err != nil || tok.AccessToken() != "my-token" {
		t.Error(tok.AccessToken(), err)
	}
}

// TestFromEnvNamesEveryVariableThatIsWrong: who sets an environment knows the names of its
// variables, not of Go's fields. The error names every variable that is wrong, all at once,
// and shows no secret.
func TestFromEnvNamesEveryVariableThatIsWrong(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ env, want string }{
		{"", "cdfauth: FromEnv: CDF_CLUSTER is missing; IDP_TENANT_ID (or IDP_TOKEN_URL) is missing; IDP_CLIENT_ID is missing; IDP_CLIENT_SECRET is missing"},
		{"PROVIDER=auth0",
			"cdfauth: FromEnv: CDF_PROJECT is missing; IDP_TOKEN_URL is missing; IDP_CLIENT_ID is missing; IDP_CLIENT_SECRET is missing"},
		{"PROVIDER=cdf", "cdfauth: FromEnv: IDP_CLIENT_ID is missing; IDP_CLIENT_SECRET is missing"},
		{"PROVIDER=okta LOGIN_FLOW=magic",
			`cdfauth: FromEnv: LOGIN_FLOW is "magic": want one of client_credentials, device_code, interactive, token; PROVIDER is "okta": want one of entra_id, auth0, cdf, other`},
		// Which variables are missing depends on PROVIDER.
		{"PROVIDER=okta",
			`cdfauth: FromEnv: PROVIDER is "okta": want one of entra_id, auth0, cdf, other$`},
		{"LOGIN_FLOW=token", "cdfauth: FromEnv: CDF_TOKEN is missing$"},
		{`LOGIN_FLOW=token CDF_TOKEN=""`, "cdfauth: FromEnv: CDF_TOKEN is missing$"},
		// One quote is not a pair.
		{`IDP_TENANT_ID=x IDP_CLIENT_ID=" IDP_CLIENT_SECRET=x CDF_CLUSTER=`, "CDF_CLUSTER is missing"},
		// An address is called by the variable that it came from.
		{"CDF_CLUSTER=g IDP_CLIENT_ID=a IDP_CLIENT_SECRET=hunter2 IDP_TOKEN_URL=http://o.test",
			"FromEnv: IDP_TOKEN_URL must be https (http only for a loopback host)$"},
		{"CDF_CLUSTER=g IDP_CLIENT_ID=a IDP_CLIENT_SECRET=hunter2 IDP_TENANT_ID=../x",
			`FromEnv: IDP_TENANT_ID is "../x": want a tenant's GUID or domain name$`},
		{"CDF_CLUSTER=g IDP_CLIENT_ID=a IDP_CLIENT_SECRET=hunter2 IDP_TENANT_ID=a#b",
			`FromEnv: IDP_TENANT_ID is "a#b": want a tenant's GUID or domain name$`},
		{"LOGIN_FLOW=interactive CDF_CLUSTER=g IDP_CLIENT_ID=a IDP_TENANT_ID=../x",
			`FromEnv: IDP_TENANT_ID is "../x": want a tenant's GUID or domain name$`},
		{"LOGIN_FLOW=interactive CDF_CLUSTER=g IDP_CLIENT_ID=a IDP_TOKEN_URL=http://o.test/t/oauth2/v2.0/token",
			"FromEnv: IDP_TOKEN_URL must be https (http only for a loopback host)$"},
		{"LOGIN_FLOW=interactive PROVIDER=other CDF_CLUSTER=g IDP_CLIENT_ID=a IDP_DISCOVERY_URL=https://o.test/?x",
			"FromEnv: IDP_DISCOVERY_URL has a query"},
		{"LOGIN_FLOW=device_code IDP_TENANT_ID=x", "FromEnv: CDF_CLUSTER is missing$"},
		{"LOGIN_FLOW=device_code PROVIDER=cdf IDP_DISCOVERY_URL=https://o.test IDP_CLIENT_ID=a",
			"FromEnv: CDF_CLUSTER is missing$"},
		{"LOGIN_FLOW=token CDF_TOKEN=hunter2é", "cdfauth: FromEnv: CDF_TOKEN has a character"},
		{"LOGIN_FLOW=interactive",
			"cdfauth: FromEnv: CDF_CLUSTER is missing; IDP_CLIENT_ID is missing; IDP_TENANT_ID (or IDP_AUTHORITY_URL) is missing, and so is IDP_DISCOVERY_URL"},
		{"LOGIN_FLOW=device_code PROVIDER=other CDF_CLUSTER=greenfield",
			"cdfauth: FromEnv: IDP_CLIENT_ID is missing; IDP_AUTHORITY_URL is missing, and so is IDP_DISCOVERY_URL"},
		{"LOGIN_FLOW=device_code CDF_CLUSTER=../evil IDP_TENANT_ID=../../evil.com",
			`cdfauth: FromEnv: CDF_CLUSTER is "../evil": want the name of a cluster, such as greenfield or westeurope-1; IDP_TENANT_ID is "../../evil.com": want a tenant's GUID or domain name`},
		{"PROVIDER=other CDF_CLUSTER=../evil IDP_SCOPES=a IDP_TOKEN_URL=https://o.test IDP_CLIENT_ID=a IDP_CLIENT_SECRET=hunter2",
			`CDF_CLUSTER is "../evil"`},
		{"PROVIDER=cdf IDP_CLIENT_ID=é IDP_CLIENT_SECRET=hunter2",
			"cdfauth: FromEnv: IDP_CLIENT_ID has a character"},
		{"PROVIDER=other CDF_CLUSTER=g IDP_TOKEN_URL=http://o.test IDP_CLIENT_ID=a IDP_CLIENT_SECRET=hunter2",
			"cdfauth: FromEnv: IDP_TOKEN_URL must be https"},
		{"PROVIDER=other CDF_CLUSTER=g IDP_SCOPES=é IDP_TOKEN_URL=https://o.test IDP_CLIENT_ID=a IDP_CLIENT_SECRET=hunter2",
			"cdfauth: FromEnv: IDP_SCOPES has"},
		{"LOGIN_FLOW=interactive CDF_CLUSTER=g IDP_AUTHORITY_URL=https://a.test/t/v2.0 IDP_CLIENT_ID=a",
			"cdfauth: FromEnv: IDP_AUTHORITY_URL goes beyond"},
	} {
		p, err := FromEnv(environment(tt.env), Options{})
		// A $ stands for the end of the error.
		if err == nil || p != nil || !strings.Contains(err.Error()+"$", tt.want) ||
			strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s:\ngot  %v\nwant %s", tt.env, err, tt.want)
		}
	}
	// The real environment, whatever is in it.
	if p, err := FromEnv(nil, Options{Leeway: -1}); err == nil || p != nil {
		t.Error("a negative leeway was taken")
	}
}

// TestFromEnvDropsQuotesAndBlanks: the toolkit's template has quotes around values, and
// docker's --env-file and others leave them there. A value of nothing but blanks counts as
// missing, so that the default is used.
func TestFromEnvDropsQuotesAndBlanks(t *testing.T) {
	t.Parallel()
	env := map[string]string{
		"PROVIDER":          ` "other" `,
		"LOGIN_FLOW":        "'client_credentials'",
		"CDF_CLUSTER":       `"greenfield"`,
		"IDP_CLIENT_ID":     "app\r\n",
		"IDP_CLIENT_SECRET": `"it's"`, // a quote inside belongs to the secret
		"IDP_TOKEN_URL":     `"https://o.test/token"`,
		"IDP_SCOPES":        " , ",
		"IDP_AUDIENCE":      `""`,
	}
	got := wire(t, func(o Options) (Provider, error) {
		return FromEnv(func(name string) string { return env[name] }, o)
	})
	want := "POST https://o.test/token audience=https://greenfield.cognitedata.com client_id=app " +
		`client_secret=it's grant_type=client_credentials scope=https://greenfield.cognitedata.com/.default`
	if strings.Join(got, "\n") != want {
		t.Errorf("sent %s\nwant %s", got, want)
	}
	env["IDP_SCOPES"] = `"a, b,,c"`
	got = wire(t, func(o Options) (Provider, error) {
		return FromEnv(func(name string) string { return env[name] }, o)
	})
	if len(got) != 1 || !strings.HasSuffix(got[0], " scope=a b c") {
		t.Errorf("sent %s, want the scopes a b c", got)
	}
}

// TestFromEnvLoginHintSelectsAPerson: several people can share a file with tokens, and the
// toolkit has no variable that selects one of them. IDP_LOGIN_HINT does, for both flows of
// a person.
func TestFromEnvLoginHintSelectsAPerson(t *testing.T) {
	t.Parallel()
	const env = "CDF_CLUSTER=greenfield IDP_TENANT_ID=x.test IDP_CLIENT_ID=app IDP_LOGIN_HINT=ada@x.test LOGIN_FLOW="
	o := Options{Cache: new(MemoryCache)}
	device, err := FromEnv(environment(env+"device_code"), o)
	must(t, err)
	if got := device.(*DeviceCode).flow().cfg.loginHint; got != "ada@x.test" {
		t.Errorf("device code: login hint %q", got)
	}
	browser, err := FromEnv(environment(env+"interactive"), o)
	must(t, err)
	if got := browser.(*Interactive).flow().cfg.loginHint; got != "ada@x.test" {
		t.Errorf("interactive: login hint %q", got)
	}
}
