// Package rietest deploys jobs as the provider for AWS does, and has AWS's own Runtime Interface
// Emulator invoke them. Its Runtime API, its way to start and reset a runtime, its limits and its report
// judge the job binary, the adapter for programs that speak only stdin and stdout, and how the provider
// reads answers. Where moto is installed, it stands for the control plane in one test, so that nothing in
// it was written for this project. It is a module of its own, so that nobody else downloads and compiles the emulator:
//
//	cd faas/aws/internal/rietest && go test ./...
package rietest
