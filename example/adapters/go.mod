module cdfauth/example/adapters

go 1.25.0

require (
	cdfauth v0.0.0
	github.com/Azure/azure-sdk-for-go/sdk/azcore v1.20.0
	golang.org/x/oauth2 v0.33.0
	sigs.k8s.io/yaml v1.6.0
)

require (
	github.com/Azure/azure-sdk-for-go/sdk/internal v1.11.2 // indirect
	go.yaml.in/yaml/v2 v2.4.2 // indirect
	golang.org/x/net v0.43.0 // indirect
	golang.org/x/text v0.28.0 // indirect
)

replace cdfauth => ../..
