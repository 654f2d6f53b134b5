// Package oracle holds the reader of the chain against go-ethereum: the same answers through its ABI decoder, and a whole fetch from a node that it runs.
// It is a module of its own so that nobody who imports the library downloads go-ethereum. It has tests only.
package oracle
