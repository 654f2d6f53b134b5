// Package bls brings results on chain that several operators must sign together.
//
// The manager of a blueprint may require for a job that its result carries the signatures of a
// part of the service's operators, added up to one signature (BLS on the curve BN254). [New]
// returns what [runner.WithAggregator] takes: it signs the answer of this operator's job, collects
// the signatures of the others at an aggregation service, and submits the sum.
//
//	keys, _, err := bls.LoadKeys("file:///var/lib/keystore")
//	aggregator, err := bls.New(keys[0], "http://10.0.0.5:8080")
//	runner.Main(handlers, runner.WithAggregator(aggregator))
//
// The aggregation service is a program that all operators of a service can reach. It is trusted
// with nothing but to be there: a sum is checked against the operators' keys on the chain before
// it is submitted. [Service] is one, for a few operators; the ecosystem's
// blueprint-tangle-aggregation-svc speaks the same protocol.
//
// An operator's public key is registered when he approves the service: approveService takes
// [PublicKey.Words], and the words of [Key.ProvePossession] for a proof.
//
// This package links a library for the curve, and no other package of the module does.
package bls
