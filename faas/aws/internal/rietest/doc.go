// Package rietest deploys jobs as the provider for AWS does, and has AWS's own Runtime Interface
// Emulator invoke them. The emulator's Runtime API, its way to start and reset a runtime, its
// limits and its report test the job binary, the adapter for programs that speak only stdin and
// stdout, and how the provider reads answers. If moto is installed, it is the control plane of one
// test, which then depends on nothing written for this project. The package is a module of its own,
// so that nobody else downloads and compiles the emulator:
//
//	cd faas/aws/internal/rietest && go test ./...
package rietest
