//go:build race

package platform

// slackMB is how far a measurement of the heap may exceed the limit. Under the race detector dead
// values live longer: an answer of 6 MiB here and there.
const slackMB = 32
