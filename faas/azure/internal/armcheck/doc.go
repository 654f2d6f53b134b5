// Package armcheck checks what the provider for Azure sends against the API descriptions that Microsoft generates its Go modules from: every call to
// Resource Manager has to be one that the generated fake servers know, and every member of a body one that the generated models have. It is a module of its
// own, so that nobody else downloads and compiles those modules, which are large:
//
//	cd faas/azure/internal/armcheck && go test ./...
package armcheck
