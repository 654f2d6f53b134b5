// Package oracle compares the reader of the chain with go-ethereum: with its ABI decoder, and by
// reading from a node that it runs. It is a module of its own so that importers of the library do
// not download go-ethereum. It contains only tests.
package oracle
