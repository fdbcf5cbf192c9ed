//go:build go1.24

// Package cdfauth gets OAuth 2.0 access tokens for Cognite Data Fusion (CDF) and
// keeps them fresh. It uses the standard library alone.
//
// # Which flow
//
// A program that has a client secret, or an assertion that its platform signs, uses
// [NewClientCredentials]; one that has a private key uses [NewClientCertificate]. A
// person signs in with a browser on this machine ([NewInteractive]) or on another
// one ([NewDeviceCode]). [FromEnv] reads the environment variables of the Cognite
// toolkit, and [Load] the configuration of Cognite's Python SDK. [NewStaticProvider]
// and [NewFuncProvider] take tokens from elsewhere.
//
// Each of these returns a [Provider]. Call its Token method for every request, or
// use the client that [NewHTTPClient] returns. A token that is fresh comes from
// memory, at the cost of one atomic load and a look at the clock.
//
// # Where tokens are kept
//
// Tokens are kept in memory, and in a [Cache] if there is one. The two flows of a
// person use a file at [DefaultCachePath] unless [Options] say otherwise, so that
// people sign in once; Cognite's Python SDK can share that file. The other flows use
// a cache only if Options name one. A token in a cache is used only for the
// identity provider, client, account, scopes and parameters that it was issued for.
// If a cache fails, the provider still returns its token, but does not keep it there.
//
// # Secrets
//
// Tokens, secrets and keys are kept inside function values, never in fields.
// Therefore every value that this package exports can be printed, logged and
// marshalled without showing one. Errors and logs are cleared of secrets too. The
// package does not protect them from whoever can read the memory of the process.
// SECURITY.md has the threat model.
//
// # Concurrency
//
// All types and functions are safe for concurrent use. Shortly before a token
// expires, the provider refreshes it in the background, and callers go on getting
// the current one. They notice neither the refresh nor a short outage of the
// identity provider. When the context of a caller ends, the caller waits no longer.
// The refresh goes on.
//
// # Compatibility
//
// Exported names, what is sent to identity providers, and the format of the cache,
// which is MSAL's, stay as they are. The texts of errors and logs may change, and so
// may timing, within what is documented.
package cdfauth
