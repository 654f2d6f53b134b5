package files

// carefully is nothing that has to be asked for here.
const carefully = 0
