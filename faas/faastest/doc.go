// Package faastest holds what a provider is tested with: [Run], a conformance suite that states every promise of the [faas.Executor] contract
// as a test; fault injection for executors ([Faulty]) and for HTTP ([FaultyTransport]); a job binary with known jobs ([JobBinary]); and an in-memory
// provider ([NewMemory]) that is the smallest complete implementation of the contract, for tests of whatever sits on top of it.
package faastest
