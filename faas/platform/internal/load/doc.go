// Package load compares ways to have a job run: the embedded platform, over HTTP and without, beside the floors under it and the strategies of others. The
// benchmarks of faas/platform and the program in compare use the same contenders.
package load
