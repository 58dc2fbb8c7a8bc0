from setuptools import find_packages, setup

setup(
    name="oldtimer",
    version="2.0.1",
    packages=find_packages(),
    # python_requires=">=2.7" until 1.9
    python_requires=">=3.6, !=3.6.0, <3.12",
    install_requires=["six"],
)
