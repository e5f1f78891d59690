package keyfile

// Own is what a test asks as another user.
var Own = own
