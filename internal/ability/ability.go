// Package ability lets a wrapper of an executor have the abilities of what it wraps, and no others.
package ability

import "github.com/tangle-network/blueprint-serverless/faas"

// Set is what an executor can do beyond faas.Executor. What it cannot is nil.
type Set struct {
	Warmer        faas.Warmer
	HealthChecker faas.HealthChecker
	LogReader     faas.LogReader
}

// Of returns the abilities of exec.
func Of(exec faas.Executor) (s Set) {
	s.Warmer, _ = exec.(faas.Warmer)
	s.HealthChecker, _ = exec.(faas.HealthChecker)
	s.LogReader, _ = exec.(faas.LogReader)
	return s
}

type (
	executor = faas.Executor
	warmer   = faas.Warmer
	checker  = faas.HealthChecker
	reader   = faas.LogReader
)

// Add returns an executor that is exec, of which only the methods of faas.Executor count, with the abilities of s. A type has the methods that it was
// compiled with, so that there is one for each combination.
func Add(exec faas.Executor, s Set) faas.Executor {
	w, h, l := s.Warmer, s.HealthChecker, s.LogReader
	switch [...]bool{w != nil, h != nil, l != nil} {
	case [...]bool{true, false, false}:
		return struct {
			executor
			warmer
		}{exec, w}
	case [...]bool{false, true, false}:
		return struct {
			executor
			checker
		}{exec, h}
	case [...]bool{true, true, false}:
		return struct {
			executor
			warmer
			checker
		}{exec, w, h}
	case [...]bool{false, false, true}:
		return struct {
			executor
			reader
		}{exec, l}
	case [...]bool{true, false, true}:
		return struct {
			executor
			warmer
			reader
		}{exec, w, l}
	case [...]bool{false, true, true}:
		return struct {
			executor
			checker
			reader
		}{exec, h, l}
	case [...]bool{true, true, true}:
		return struct {
			executor
			warmer
			checker
			reader
		}{exec, w, h, l}
	}
	return struct{ executor }{exec}
}
