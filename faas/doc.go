// Package faas is the contract between the deployment engine and the providers that run a service's jobs as functions.
package faas
