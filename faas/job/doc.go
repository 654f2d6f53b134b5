// Package job makes a program a job binary that runs on every provider: it speaks the protocol of the place it finds itself in.
package job
