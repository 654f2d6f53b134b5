// Package frameworktest deploys jobs as the provider for Google does, builds them as Google's Go
// buildpack does, with Google's own functions framework, and invokes them. The framework thus
// judges both source shims: the one that becomes a job binary, and the one around a program that
// speaks only stdin and stdout. The package is a module of its own, so that nobody else downloads
// and compiles the framework:
//
//	cd faas/gcp/internal/frameworktest && go test ./...
package frameworktest
