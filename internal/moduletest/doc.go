// Package moduletest holds the tests of the module as a whole: what its packages export and document, and
// what they link. There is nothing in it to import.
package moduletest
