"""Files of slots, in the forms that people have: pickles, torch files, safetensors, npz, npy, HDF5, folders, compressed ones."""
