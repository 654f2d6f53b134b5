// Package moduletest holds the tests of the module as a whole: what its packages export and
// document, and what they link. It has nothing to import.
package moduletest
