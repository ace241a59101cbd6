"""The methods that AL-DSGD is compared with, one file each."""
