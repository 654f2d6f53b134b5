// Package faastest tests providers. [Run] is a conformance suite that states every promise of the
// [faas.Executor] contract as a test. [Weather] plays random histories in bad conditions.
// [Faulty] and [FaultyTransport] inject faults into executors and into HTTP. [JobBinary] is a job
// binary with known jobs. [NewMemory] makes an in-memory provider, the smallest complete
// implementation of the contract, for tests of code that uses providers.
package faastest
