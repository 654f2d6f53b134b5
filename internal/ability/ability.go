// Package ability lets a wrapper of an executor have the abilities of what it wraps, and no others.
package ability

import "github.com/tangle-network/blueprint-serverless/faas"

// Set is what an executor can do beyond faas.Executor. What it cannot is nil.
type Set struct {
	Warmer        faas.Warmer
	HealthChecker faas.HealthChecker
	LogReader     faas.LogReader
	Diagnoser     faas.Diagnoser
}

// Of returns the abilities of exec.
func Of(exec faas.Executor) (s Set) {
	s.Warmer, _ = exec.(faas.Warmer)
	s.HealthChecker, _ = exec.(faas.HealthChecker)
	s.LogReader, _ = exec.(faas.LogReader)
	s.Diagnoser, _ = exec.(faas.Diagnoser)
	return s
}

// Find returns the ability T of exec or of what it wraps: an executor that wraps another says so by a
// method Unwrap.
func Find[T any](exec faas.Executor) (T, bool) {
	for {
		if found, ok := exec.(T); ok {
			return found, true
		}
		wrapper, ok := exec.(interface{ Unwrap() faas.Executor })
		if !ok {
			var none T
			return none, false
		}
		exec = wrapper.Unwrap()
	}
}

// executor is what Add was given, of which only the methods of faas.Executor show.
type executor struct{ faas.Executor }

// Unwrap returns what Add was given.
func (e executor) Unwrap() faas.Executor { return e.Executor }

type (
	warmer    = faas.Warmer
	checker   = faas.HealthChecker
	reader    = faas.LogReader
	diagnoser = faas.Diagnoser
)

// A type has the methods that it was compiled with, so that there is one for each combination. The letters are those of the abilities.
type (
	with  struct{ executor }
	withW struct {
		executor
		warmer
	}
	withH struct {
		executor
		checker
	}
	withWH struct {
		executor
		warmer
		checker
	}
	withL struct {
		executor
		reader
	}
	withWL struct {
		executor
		warmer
		reader
	}
	withHL struct {
		executor
		checker
		reader
	}
	withWHL struct {
		executor
		warmer
		checker
		reader
	}
)

// Add returns an executor that is exec, of which only the methods of faas.Executor count, with the abilities of s.
func Add(exec faas.Executor, s Set) faas.Executor {
	w, h, l := s.Warmer, s.HealthChecker, s.LogReader
	switch [...]bool{w != nil, h != nil, l != nil} {
	case [...]bool{true, false, false}:
		return diagnosing(s.Diagnoser, withW{executor{exec}, w}, func(x withW, d diagnoser) faas.Executor {
			return struct {
				withW
				diagnoser
			}{x, d}
		})
	case [...]bool{false, true, false}:
		return diagnosing(s.Diagnoser, withH{executor{exec}, h}, func(x withH, d diagnoser) faas.Executor {
			return struct {
				withH
				diagnoser
			}{x, d}
		})
	case [...]bool{true, true, false}:
		return diagnosing(s.Diagnoser, withWH{executor{exec}, w, h}, func(x withWH, d diagnoser) faas.Executor {
			return struct {
				withWH
				diagnoser
			}{x, d}
		})
	case [...]bool{false, false, true}:
		return diagnosing(s.Diagnoser, withL{executor{exec}, l}, func(x withL, d diagnoser) faas.Executor {
			return struct {
				withL
				diagnoser
			}{x, d}
		})
	case [...]bool{true, false, true}:
		return diagnosing(s.Diagnoser, withWL{executor{exec}, w, l}, func(x withWL, d diagnoser) faas.Executor {
			return struct {
				withWL
				diagnoser
			}{x, d}
		})
	case [...]bool{false, true, true}:
		return diagnosing(s.Diagnoser, withHL{executor{exec}, h, l}, func(x withHL, d diagnoser) faas.Executor {
			return struct {
				withHL
				diagnoser
			}{x, d}
		})
	case [...]bool{true, true, true}:
		return diagnosing(s.Diagnoser, withWHL{executor{exec}, w, h, l}, func(x withWHL, d diagnoser) faas.Executor {
			return struct {
				withWHL
				diagnoser
			}{x, d}
		})
	}
	return diagnosing(s.Diagnoser, with{executor{exec}}, func(x with, d diagnoser) faas.Executor {
		return struct {
			with
			diagnoser
		}{x, d}
	})
}

// diagnosing returns x, joined with d unless that is nil.
func diagnosing[T faas.Executor](d diagnoser, x T, join func(T, diagnoser) faas.Executor) faas.Executor {
	if d == nil {
		return x
	}
	return join(x, d)
}
