fn main() {
    println!("{}", shop_core::total(&[1, 2, 3]));
}
