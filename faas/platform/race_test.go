//go:build race

package platform

// slackMB is what a measurement of the heap may be above the limit: under the race detector dead values
// live longer, an answer of 6 MiB here and there.
const slackMB = 32
