// Package gcp is the provider for Google Cloud Functions. Importing it registers the name [faas.GCPFunctions].
//
// This version of the module does not deploy there yet: [faas.Open] returns a [faas.ErrUnsupported]. The limits of the provider are known, so a
// policy can name it and jobs can be analysed for it.
//
// A program that imports it through faas/all and is built with -tags faas_only leaves it out, unless the tag faas_gcp is given too; opening it then
// is a [faas.ErrNotLinked] that says so.
package gcp
