// Package oracle judges the runner with go-ethereum, and with anvil where that is installed:
// transactions, key stores, the simulated chain that the other tests use, and the life of a service
// on real EVM nodes. It is a module of its own so that importers of the library do not download
// go-ethereum. It contains only tests.
package oracle
