// Package serverless runs the jobs of a blueprint on serverless platforms.
package serverless
