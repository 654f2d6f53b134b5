// Package runner makes a blueprint binary a runner: it watches the chain for the jobs of one
// service, runs each of them in its function or in this process, and submits the result on chain.
package runner
