"""Force constants in the files of this package and of others: phono3py, phonopy, ShengBTE, hiPhive, Quantum ESPRESSO.

formats.py    which there are; reading whatever a path is, writing by a format's name
own.py        one HDF5 file with cells, Φ2, Φ3, charges and where they come from: what `kappa` keeps
peer.py       phono3py's and phonopy's files and objects, through phono3py
shengbte.py   CONTROL, FORCE_CONSTANTS_2ND and FORCE_CONSTANTS_3RD, espresso.ifc2
hiphive.py    hiPhive's file, through hiPhive
"""
