//go:build !race

package platform

// slackMB is how far a measurement of the heap may exceed the limit.
const slackMB = 6
