//go:build !race

package platform

// slackMB is what a measurement of the heap may be above the limit.
const slackMB = 6
