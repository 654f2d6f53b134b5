// Package load compares ways to run a job: the embedded platform, over HTTP and in process, beside
// the floors below it and other platforms' strategies. The benchmarks of faas/platform and the
// program in compare share the contenders.
package load
