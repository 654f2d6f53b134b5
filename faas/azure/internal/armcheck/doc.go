// Package armcheck compares what the provider for Azure sends with the API descriptions from which
// Microsoft generates its Go modules: the generated fake servers must know every call to Resource
// Manager, and the generated models must have every member of a body. It is a module of its own, so
// that nobody else downloads and compiles those modules, which are large:
//
//	cd faas/azure/internal/armcheck && go test ./...
package armcheck
