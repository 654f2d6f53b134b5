// Package sdktest has only tests.
package sdktest
